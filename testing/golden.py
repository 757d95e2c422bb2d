"""Regenerates the golden files: `python -m testing.golden`. Read the diff before you commit it.

They are the contract for programs in other languages: the schema of each message, messages in each encoding, and for each topic
`simulated-NAME.jsonl` with what `edgepose simulate` publishes, one `{"topic", "payload"}` a line.
"""

import json
from pathlib import Path

from msgspec.structs import replace

from edgepose.messages import compact
from edgepose.messages.schema import COMMANDS, TOPICS, Topic, asyncapi, json_schema
from edgepose.messages.structs import EventMessage, PosesMessage, encode
from edgepose.webhook.sender import webhook_schema
from testing.sample import sample_event_message, sample_message
from testing.simulated import simulate, topic_of

_SIMULATED_LINES = 8

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "messages" / "golden"


def golden_files() -> dict[str, str]:
    """Return the content of every golden file by its name."""
    documents = {f"{topic.name}.schema.json": json_schema(topic.name) for topic in TOPICS + COMMANDS}
    documents |= {"asyncapi.json": asyncapi(), "webhook.schema.json": webhook_schema()}
    files = {name: json.dumps(document, indent=2, sort_keys=True) + "\n" for name, document in documents.items()}
    messages: dict[str, PosesMessage | EventMessage] = {"poses.jsonl": sample_message(), "events.jsonl": sample_event_message()}
    encoded = {
        "poses.compact.hex": compact.encode(replace(sample_message(), session="0123456789abcdef")).hex() + "\n",
        "poses.msgpack.hex": encode(sample_message(), "msgpack").hex() + "\n",
    }
    return files | encoded | {name: encode(message).decode() + "\n" for name, message in messages.items()}


def simulated_name(topic: Topic) -> str:
    """Return the name of the golden file with simulated messages of a topic."""
    return f"simulated-{topic.name}.jsonl"


def simulated_files() -> dict[str, str]:
    """Return for each topic the first simulated messages, and for events one of each kind, by name of the file."""
    taken: dict[str, dict[object, str]] = {simulated_name(topic): {} for topic in TOPICS}
    for address, payload in simulate(seconds=60).messages:
        if not isinstance(payload, bytes):
            lines = taken[simulated_name(topic_of(address))]
            # One of each kind of event, and poses two seconds apart: the first frames show nobody.
            key: object = len(lines)
            if isinstance(payload, EventMessage):
                key = payload.kind
            elif isinstance(payload, PosesMessage):
                key = payload.sequence // 20
            if key not in lines and (isinstance(payload, EventMessage) or len(lines) < _SIMULATED_LINES):
                lines[key] = json.dumps({"topic": f"edgepose/simulator/{address}", "payload": json.loads(encode(payload))})
    return {name: "".join(f"{line}\n" for line in lines.values()) for name, lines in taken.items()}


if __name__ == "__main__":
    for name, content in (golden_files() | simulated_files()).items():
        (GOLDEN / name).write_text(content)
