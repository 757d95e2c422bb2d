"""Command `edgepose schema`: the schemas of messages and configuration, for other programs."""

import click

MESSAGES = ("status", "info", "health", "camera-status", "poses", "events", "occupancy", "zone-occupancy", "reply")
COMMANDS = ("command-reload", "command-set-threshold", "command-pause", "command-resume", "command-snapshot", "command-record")


@click.command("schema", short_help="Print the schemas as JSON.", epilog="Example: edgepose schema poses > poses.schema.json")
@click.argument("document", type=click.Choice(("config", "asyncapi", "webhook", *MESSAGES, *COMMANDS)), default="asyncapi")
def command(document: str) -> None:
    """Print a schema as JSON.

    DOCUMENT is `asyncapi` (all topics and messages, the default), `config` (JSON Schema of the configuration) or the JSON
    Schema of one message or command, or of the events that a `webhook` receives.
    """
    import msgspec

    from edgepose.config.schema import Config
    from edgepose.messages.schema import asyncapi, json_schema
    from edgepose.webhook.sender import webhook_schema

    match document:
        case "asyncapi":
            contract = asyncapi()
        case "config":
            contract = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Config)}
        case "webhook":
            contract = webhook_schema()
        case _:
            contract = json_schema(document)
    click.echo(msgspec.json.format(msgspec.json.encode(contract), indent=2))
