"""Passwords as Argon2id hashes: one is computed at a time and few wait, so that a crowd at the door takes neither memory nor time."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2

from edgepose.supervision.thread_names import show_thread_as

T = TypeVar("T")

QUEUE = 8
"""Computations that wait or run at the same time; further ones are refused at once."""

OF_STRANGERS = 4
"""Those of them that may be for addresses where the account was never used: its owner finds a place, whatever strangers try."""

SHORTEST, LONGEST = 12, 256
"""Characters of a password."""

_MEMORY_KIB = 19 * 1024  # OWASP's recommendation for Argon2id with one lane and two passes
_PASSES = 2


class TooManyLoginsError(Exception):
    """More passwords are being checked than may be at the same time."""


class Passwords:
    """A hasher of passwords, in a thread of its own."""

    def __init__(self) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1)
        self._thread = ThreadPoolExecutor(1, "passwords", show_thread_as, ("passwords",))
        self._waiting = 0
        self._nobodys = self._hasher.hash(secrets.token_hex(16))

    async def is_right(self, hashed: str | None, password: str, *, known: bool) -> bool:
        """Return whether a password matches its hash; without one the same work is done, so that the time tells nothing.

        Args:
            hashed: of the account; None for one that does not exist.
            password: that was typed.
            known: whether the account was used from this address before.

        Raises:
            TooManyLoginsError: others wait already.
        """
        right = await self._run(QUEUE if known else OF_STRANGERS, self._verify, hashed or self._nobodys, password)
        return right and hashed is not None

    async def hashed(self, password: str) -> str:
        """Return the hash of a password; TooManyLoginsError where others wait already."""
        return await self._run(QUEUE, self._hasher.hash, password)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, places: int, function: Callable[..., T], *arguments: str) -> T:
        if self._waiting >= places:
            raise TooManyLoginsError
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        finally:
            self._waiting -= 1

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password[: LONGEST + 1])
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False


def password_fault(password: str, name: str) -> str | None:
    """Return what is wrong with a new password, in a sentence; None where nothing is."""
    if not SHORTEST <= len(password) <= LONGEST:
        return f"the password has {len(password)} characters; expected {SHORTEST} to {LONGEST}, such as four or more words"
    if (
        len(set(password)) < 5
        or password.lower() in (name.lower(), "edgeposeedgepose")
        or password.lower() == f"{name.lower()}{name.lower()}"
    ):
        return "the password is too easy to guess; expected four or more words"
    return None
