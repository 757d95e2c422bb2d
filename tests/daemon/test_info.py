from edgepose.daemon.info import camera_message
from edgepose.messages.camera_state import CameraState
from edgepose.messages.structs import encode


def test_a_detail_with_a_file_name_that_is_not_utf8_can_be_published() -> None:
    state = CameraState("front", "failed", "unsupported", "camera front: a\udcff.jpg cannot be decoded", 0)
    message = camera_message(state, 0)
    assert message.detail == "camera front: a\\udcff.jpg cannot be decoded"
    assert encode(message)
