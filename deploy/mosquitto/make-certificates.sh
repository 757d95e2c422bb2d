#!/bin/sh
# Creates an authority and certificates for a small fleet with openssl. For a large fleet use a real authority (step-ca, Vault).
set -eu
umask 077

usage() {
    cat <<'END'
Usage: make-certificates.sh FOLDER ca
       make-certificates.sh FOLDER broker NAME [NAME-OR-ADDRESS...]
       make-certificates.sh FOLDER client NAME
Creates NAME.crt and NAME.key in FOLDER. Existing files are never replaced: remove expired ones first.
  ca      the authority: ca.crt for everyone, ca.key stays secret
  broker  a broker; NAME and the further arguments are the host names and IP addresses that clients use
  client  a device, with NAME as its name in topics, or a person in edgepose.acl: reader, commander
Days of validity: $CA_DAYS (3650), $DAYS (825).
END
}
fail() { printf 'make-certificates.sh: %s\n' "$*" >&2; exit 64; }

[ "${1:-}" != --help ] || { usage; exit; }
[ $# -ge 2 ] || { usage >&2; exit 64; }
folder=$1 kind=$2
shift 2
mkdir -p "$folder"
cd "$folder"

# key_and_request NAME
key_and_request() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/O=edgepose/CN=$1" -keyout "$1.key.new" -out "$1.csr" 2>/dev/null
}

# certificate NAME EXTENSIONS...
certificate() {
    [ -s ca.key ] || fail "there is no authority in $folder; create it first: make-certificates.sh $folder ca"
    name=$1
    case $name in '' | *[!A-Za-z0-9._:-]* | .* | -*) fail "'$name' is not a valid name; expected letters, digits, '.', '_' and '-'" ;; esac
    case $name in ca) fail "'ca' is the authority's own name; expected another name" ;; esac
    [ ! -e "$name.crt" ] || fail "$folder/$name.crt already exists; remove it to create a new one"
    shift
    key_and_request "$name"
    {
        printf '%s\n' 'basicConstraints=critical,CA:false' 'keyUsage=critical,digitalSignature' 'subjectKeyIdentifier=hash' \
            'authorityKeyIdentifier=keyid' "$@"
    } >"$name.ext"
    openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" -days "${DAYS:-825}" \
        -extfile "$name.ext" -out "$name.crt.new" 2>/dev/null
    openssl verify -CAfile ca.crt "$name.crt.new" >/dev/null
    rm "$name.csr" "$name.ext"
    chmod 644 "$name.crt.new"
    mv "$name.key.new" "$name.key"
    mv "$name.crt.new" "$name.crt"
    printf '%s\n' "$folder/$name.crt and $name.key: valid until $(openssl x509 -in "$name.crt" -noout -enddate | cut -d= -f2)"
}

case $kind in
ca)
    [ ! -e ca.key ] || fail "$folder/ca.key already exists; with a new one, all certificates would have to be replaced"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "${CA_DAYS:-3650}" -subj '/O=edgepose/CN=edgepose authority' \
        -addext 'basicConstraints=critical,CA:true,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign' -keyout ca.key -out ca.crt 2>/dev/null
    chmod 644 ca.crt
    printf '%s\n' "$folder/ca.crt and ca.key"
    ;;
broker)
    [ $# -ge 1 ] || fail "broker needs a name; see --help"
    names=''
    for name in "$@"; do
        case $name in *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) names=$names,IP:$name ;; *) names=$names,DNS:$name ;; esac
    done
    certificate "$1" 'extendedKeyUsage=serverAuth' "subjectAltName=${names#,}"
    ;;
client)
    [ $# = 1 ] || fail "client needs one name; see --help"
    certificate "$1" 'extendedKeyUsage=clientAuth'
    ;;
*) fail "'$kind' is not a kind of certificate; expected ca, broker or client" ;;
esac
