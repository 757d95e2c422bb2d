"""Regenerates the golden files: `python -m testing.golden`. Read the diff before you commit it."""

import json
from pathlib import Path

from edgepose.messages.schema import COMMANDS, TOPICS, asyncapi, json_schema
from edgepose.messages.structs import EventMessage, PosesMessage, encode
from testing.sample import sample_event_message, sample_message

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "messages" / "golden"


def golden_files() -> dict[str, str]:
    """Return the content of every golden file by its name."""
    documents = {f"{topic.name}.schema.json": json_schema(topic.name) for topic in TOPICS + COMMANDS} | {"asyncapi.json": asyncapi()}
    files = {name: json.dumps(document, indent=2, sort_keys=True) + "\n" for name, document in documents.items()}
    messages: dict[str, PosesMessage | EventMessage] = {"poses.jsonl": sample_message(), "events.jsonl": sample_event_message()}
    return files | {name: encode(message).decode() + "\n" for name, message in messages.items()}


if __name__ == "__main__":
    for name, content in golden_files().items():
        (GOLDEN / name).write_text(content)
