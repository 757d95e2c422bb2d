"""`edgepose-export blend`."""

from pathlib import Path

import click
from rich.console import Console

from edgepose_export.network.checkpoint import blend_networks, load_deployed, save_network
from edgepose_export.shipped import find_checkpoint


@click.command(epilog="Example: edgepose-export blend refine-n runs/refine-n/last.pt --share 0.8 --output runs/refine-n/blended.pt")
@click.argument("start")
@click.argument("trained")
@click.option("--share", type=click.FloatRange(0, 1), required=True, help="Share of TRAINED in the weights, 0 to 1.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Checkpoint to write: half precision, batch-norms folded.")
def blend(start: str, trained: str, share: float, output: Path) -> None:
    """Blend the weights of TRAINED with those of START, the checkpoint from which it was trained (shipped names or files).

    A network that is trained further on other pictures forgets some of the old ones. A blend keeps most of what both know.
    """
    network = blend_networks(load_deployed(find_checkpoint(start)), load_deployed(find_checkpoint(trained)), share)
    save_network(output, network, half=True)
    Console(stderr=True).print(f"{share:.0%} of {trained}, {1 - share:.0%} of {start} -> {output}")
