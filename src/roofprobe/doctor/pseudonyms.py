"""Replaces what identifies a network card by pseudonyms that mean nothing outside one recording.

    MAC address   -> 6 bytes of a keyed hash, marked as locally administered
    GUID          -> 8 bytes of one
    GID, IPv6     -> fe80::/64 stays and other prefixes become a unique local one; an interface identifier that was made
                     of a MAC is made of that MAC's pseudonym, and any other is treated as a GUID

The same address has the same pseudonym throughout, so what belongs together still does. The key is random and kept
nowhere. A GID that stands for an IPv4 address stays as it is: the rules about subnets need it, and so do people.
"""

from __future__ import annotations

from hashlib import blake2b
import re
import secrets

_HEX4 = r"[0-9a-fA-F]{4}"
_HEX2 = r"[0-9a-fA-F]{2}"
_IDENTIFIER = re.compile(
    r"(?<![0-9a-fA-F:])(?:"
    rf"(?P<gid>(?:{_HEX4}:){{7}}{_HEX4})"
    rf"|(?P<guid>(?:{_HEX4}:){{3}}{_HEX4})"
    rf"|(?P<mac>(?:{_HEX2}[:-]){{5,19}}{_HEX2})"
    r")(?![0-9a-fA-F:])"
    r"|(?<![A-Za-z0-9])(?P<kind>en|wl|ww|ib)x(?P<named>[0-9a-fA-F]{12})(?![A-Za-z0-9])"
)
"""`named`: a USB or wireless interface that systemd named after its MAC address."""
_IPV4_MAPPED = bytes(10) + b"\xff\xff"
_LINK_LOCAL = bytes.fromhex("fe80000000000000")


class Pseudonyms:
    """Those of one recording."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def replaced(self, text: str) -> str:
        """`text` with every such address in it replaced, and all else as it was."""
        return _IDENTIFIER.sub(self._replacement, text)

    def _replacement(self, found: re.Match[str]) -> str:
        if found["named"]:
            return f"{found['kind']}x{self._mac(bytes.fromhex(found['named'])).hex()}"
        digits = re.sub(r"[:-]", "", found[0])
        value = bytes.fromhex(digits)
        if found["mac"]:
            separator = found[0][2]
            # A longer one is IP over InfiniBand's: flags and a queue pair's number, then a GID.
            new = self._mac(value) if len(value) == 6 else self._hash(value, len(value))
            return separator.join(f"{byte:02x}" for byte in new)
        new = self._guid(value) if found["guid"] else self._gid(value)
        return ":".join(new[i : i + 2].hex() for i in range(0, len(new), 2))

    def _gid(self, gid: bytes) -> bytes:
        if gid.startswith(_IPV4_MAPPED) or not any(gid):
            return gid
        prefix = gid[:8]
        if prefix != _LINK_LOCAL:
            prefix = b"\xfd" + self._hash(prefix, 7)
        return prefix + self._guid(gid[8:])

    def _guid(self, guid: bytes) -> bytes:
        if not any(guid):
            return guid
        if guid[3:5] != b"\xff\xfe":
            return self._hash(guid, 8)
        mac = self._mac(bytes([guid[0] ^ 2]) + guid[1:3] + guid[5:])  # EUI-64 inverts the local bit
        return bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]

    def _mac(self, mac: bytes) -> bytes:
        if not any(mac):
            return mac
        hashed = self._hash(mac, 6)
        return bytes([hashed[0] & 0xFC | 2]) + hashed[1:]

    def _hash(self, value: bytes, length: int) -> bytes:
        return blake2b(value, key=self._key, digest_size=length).digest()
