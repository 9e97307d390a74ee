"""Byte streams encrypted with AES-256-GCM, in blocks, each under a key of its own file. Knows neither memories nor where keys are kept.

Form of an encrypted stream: 8 bytes of name, 1 of version, 32 of salt, then blocks of at most 1 MiB, each followed by its tag of 16
bytes. The stream's key is HKDF-SHA256 of the data key and the salt, so no two streams share one, and a block's nonce can be its number
(11 bytes) and whether it is the last (1 byte). Every tag covers the head and the name of the stream: blocks cannot be left out, moved,
or taken from another stream. A block is given out only after its tag was checked.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import IO, Any

from mplus.errors import SnapshotError
from mplus.runtime.extras import require

KEY_BYTES, TAG_BYTES, SALT_BYTES = 32, 16, 32
BLOCK_BYTES = 1 << 20
MAGIC, VERSION = b"MPLUSENC", 1
HEAD_BYTES = len(MAGIC) + 1 + SALT_BYTES
FEATURE = "encryption of a stored memory"


def new_key() -> bytes:
    """A data key."""
    return secrets.token_bytes(KEY_BYTES)


def encrypt(key: bytes, name: str, content: Iterable[bytes | memoryview], target: IO[bytes]) -> None:
    """Write content, in pieces of any size, as an encrypted stream.

    Args:
        name: what it is; the same is needed to decrypt.
    """
    head = MAGIC + bytes([VERSION]) + secrets.token_bytes(SALT_BYTES)
    cipher, associated = _cipher(key, head), head + name.encode()
    target.write(head)
    blocks = _in_blocks(content)
    block, number = next(blocks, b""), 0
    for following in blocks:
        target.write(cipher.encrypt(_nonce(number, last=False), block, associated))
        block, number = following, number + 1
    target.write(cipher.encrypt(_nonce(number, last=True), block, associated))


def decrypt(key: bytes, name: str, source: IO[bytes]) -> Iterator[bytes]:
    """Blocks of an encrypted stream, each after it was found to be genuine.

    Raises:
        SnapshotError: another key or name, or altered, cut short or longer; what was given out before is genuine but not all of it.
    """
    from cryptography.exceptions import InvalidTag

    head = source.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES or not head.startswith(MAGIC):
        raise SnapshotError(f"{name} is not encrypted, or was cut short; restore it from a backup")
    if head[len(MAGIC)] != VERSION:
        raise SnapshotError(
            f"{name} is encrypted in version {head[len(MAGIC)]}, this version of mplus reads {VERSION}; update mplus"
        )
    cipher, associated = _cipher(key, head), head + name.encode()
    sealed, number = source.read(BLOCK_BYTES + TAG_BYTES), 0
    while True:
        following = source.read(BLOCK_BYTES + TAG_BYTES)
        try:
            yield cipher.decrypt(_nonce(number, last=not following), sealed, associated)
        except InvalidTag:
            raise SnapshotError(
                f"{name} cannot be decrypted: it was altered or cut short, or is of another key; restore it from a backup"
            ) from None
        if not following:
            return
        sealed, number = following, number + 1


def _cipher(key: bytes, head: bytes) -> Any:
    aead = require("cryptography.hazmat.primitives.ciphers.aead", FEATURE)
    hashes = require("cryptography.hazmat.primitives.hashes", FEATURE)
    hkdf = require("cryptography.hazmat.primitives.kdf.hkdf", FEATURE)
    assert len(key) == KEY_BYTES
    own = hkdf.HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=head[-SALT_BYTES:], info=b"mplus stream 1").derive(key)
    return aead.AESGCM(own)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _in_blocks(content: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The same bytes in whole blocks, the last one shorter; nothing where there are none."""
    rest = bytearray()
    for piece in content:
        view = memoryview(piece).cast("B")
        if rest:
            taken = min(len(view), BLOCK_BYTES - len(rest))
            rest += view[:taken]
            view = view[taken:]
            if len(rest) < BLOCK_BYTES:
                continue
            yield bytes(rest)
            rest.clear()
        whole = len(view) - len(view) % BLOCK_BYTES
        for start in range(0, whole, BLOCK_BYTES):
            yield view[start : start + BLOCK_BYTES]
        rest += view[whole:]
    if rest:
        yield bytes(rest)
