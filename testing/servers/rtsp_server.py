"""An RTSP server on GStreamer, a program that runs with the system's Python, since no wheel has `gi`.

Prints `ready` when it listens. `/cam` is a moving ball, `/guarded` wants user `pilot`, password `s3cret`, `/sound` has no video,
`/future` has an unknown encoding, `/still` never changes, `/growing` doubles and halves its size every two seconds.
"""

import argparse
import itertools

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtspServer  # noqa: E402

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("port", type=int)
arguments.add_argument("--address", default="127.0.0.1")
arguments.add_argument("--width", type=int, default=320)
arguments.add_argument("--height", type=int, default=240)
arguments.add_argument("--rate", type=int, default=15)
arguments.add_argument("--file", help="an H.264 MP4, played once as it is, in place of the ball")
arguments.add_argument("--certificate", help="PEM; speaks TLS then")
arguments.add_argument("--key", help="PEM, of the certificate")
options = arguments.parse_args()

Gst.init(None)
PAYLOAD = "h264parse config-interval=1 ! rtph264pay name=pay0 pt=96 config-interval=1"


def test_picture(pattern: str) -> str:
    return (
        f"videotestsrc is-live=true pattern={pattern} ! capsfilter name=size"
        f" caps=video/x-raw,format=I420,width={options.width},height={options.height},framerate={options.rate}/1"
        f" ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={options.rate} bitrate=500 ! {PAYLOAD}"
    )


BALL = test_picture("ball")
SOUND = "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 pt=8"
FUTURE = BALL.replace("name=pay0 pt=96", "pt=96") + " ! capssetter caps=application/x-rtp,encoding-name=H299 ! identity name=pay0"
VIDEO = f"filesrc location={options.file} ! qtdemux ! {PAYLOAD}" if options.file else BALL

server = GstRtspServer.RTSPServer()
server.set_address(options.address)
server.set_service(str(options.port))

authentication = GstRtspServer.RTSPAuth()
for user, role in (("pilot", "pilot"), (None, "anyone")):
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", role)
    if user is None:
        authentication.set_default_token(token)
    else:
        authentication.add_basic(GstRtspServer.RTSPAuth.make_basic(user, "s3cret"), token)
if options.certificate:
    authentication.set_tls_certificate(Gio.TlsCertificate.new_from_files(options.certificate, options.key))
server.set_auth(authentication)


def grow(_: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
    size = media.get_element().get_by_name("size")
    factors = itertools.cycle((2, 1))

    def change() -> bool:
        caps = size.get_property("caps").copy()
        factor = next(factors)
        caps.set_value("width", options.width * factor)
        caps.set_value("height", options.height * factor)
        size.set_property("caps", caps)
        return True

    GLib.timeout_add(2000, change)


for path, launch, roles in (
    ("/cam", VIDEO, ("pilot", "anyone")),
    ("/guarded", BALL, ("pilot",)),
    ("/sound", SOUND, ("pilot", "anyone")),
    ("/future", FUTURE, ("pilot", "anyone")),
    ("/still", test_picture("black"), ("pilot", "anyone")),
    ("/growing", BALL, ("pilot", "anyone")),
):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {launch} )")
    factory.set_shared(True)
    if path == "/growing":
        factory.connect("media-configure", grow)
    permissions = GstRtspServer.RTSPPermissions()
    for role in ("pilot", "anyone"):
        # Without access the answer is 404; with access but without construct, 401.
        permissions.add_permission_for_role(role, "media.factory.access", True)
        permissions.add_permission_for_role(role, "media.factory.construct", role in roles)
    factory.set_permissions(permissions)
    server.get_mount_points().add_factory(path, factory)

if server.attach(None) == 0:
    raise SystemExit(f"cannot listen on port {options.port}")
print("ready", flush=True)
GLib.MainLoop().run()
