"""An RTSP server on GStreamer, a program of its own: run with the system's Python, whose `gi` no wheel has.

Prints `ready` when it listens. `/cam` is a moving ball, `/guarded` wants user `pilot`, password `s3cret`.
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("port", type=int)
arguments.add_argument("--address", default="127.0.0.1")
arguments.add_argument("--width", type=int, default=320)
arguments.add_argument("--height", type=int, default=240)
arguments.add_argument("--rate", type=int, default=15)
arguments.add_argument("--file", help="an H.264 MP4, played once as it is, in place of the ball")
options = arguments.parse_args()

Gst.init(None)
PAYLOAD = "h264parse config-interval=1 ! rtph264pay name=pay0 pt=96 config-interval=1"
BALL = (
    "videotestsrc is-live=true pattern=ball"
    f" ! video/x-raw,format=I420,width={options.width},height={options.height},framerate={options.rate}/1"
    f" ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={options.rate} bitrate=500 ! {PAYLOAD}"
)
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
server.set_auth(authentication)

for path, launch, roles in (
    ("/cam", VIDEO, ("pilot", "anyone")),
    ("/guarded", BALL, ("pilot",)),
):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {launch} )")
    factory.set_shared(True)
    permissions = GstRtspServer.RTSPPermissions()
    for role in ("pilot", "anyone"):
        # Who may not even see it is answered 404; who may see but not use it, 401.
        permissions.add_permission_for_role(role, "media.factory.access", True)
        permissions.add_permission_for_role(role, "media.factory.construct", role in roles)
    factory.set_permissions(permissions)
    server.get_mount_points().add_factory(path, factory)

if server.attach(None) == 0:
    raise SystemExit(f"cannot listen on port {options.port}")
print("ready", flush=True)
GLib.MainLoop().run()
