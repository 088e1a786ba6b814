"""The randomness of a request follows from the run's seed and the request's key, and from nothing else."""

import hashlib


def stream(seed: int, key: str) -> int:
    """The 64-bit start of a request's random stream."""
    text = f"{seed}\0{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
