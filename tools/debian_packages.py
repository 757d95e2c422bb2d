"""Debian packages that a tool needs: installed quietly where they are missing and we may, otherwise named."""

import os
import subprocess
from collections.abc import Mapping

import click

from testing.requirements import find_program


def install_missing(programs: Mapping[str, str]) -> None:
    """Install the packages of those programs that are missing here.

    Args:
        programs: Debian package by program, such as `{"qemu-aarch64-static": "qemu-user-static"}`.

    Raises:
        click.ClickException: this needs root, or a package cannot be installed.
    """
    packages = sorted({package for program, package in programs.items() if find_program(program) is None})
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    if os.geteuid() or find_program("apt-get") is None:
        raise click.ClickException(f"{', '.join(packages)} is missing; expected: sudo {' '.join(command)}")
    click.echo(f"installing {', '.join(packages)}", err=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(command, env=quiet, capture_output=True).returncode:
        subprocess.run(["apt-get", "update", "--quiet"], env=quiet, capture_output=True)  # package lists that are old or empty
        done = subprocess.run(command, env=quiet, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(f"{', '.join(packages)} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
