"""A small writer of TIFFs of every kind: what Pillow itself cannot write, and what its own writer would not get wrong alike."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_BACKWARDS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FORMATS = {"u": 1, "i": 2, "f": 3, "b": 1}


def tiff(values, photometric: int = 1, *, order: str = "<", big: bool = False, tags: dict[int, tuple[int, object]] | None = None, **layout):
    """The bytes of a TIFF of one page.

    Args:
        values: ``[H, W]`` or ``[H, W, S]``; booleans are written as one bit each.
        photometric: The tag of that name.
        order: ``'<'`` or ``'>'``.
        big: BigTIFF.
        tags: More of them, or others than usual: type and value or values; ``None`` leaves one out.
        layout: See ``_Blocks``.
    """
    values = np.asarray(values)
    values = values[..., None] if values.ndim == 2 else values
    blocks = _Blocks(values, order, **layout)
    samples, bits = values.shape[2], 1 if values.dtype == bool else 8 * values.itemsize
    found = {
        256: (4, values.shape[1]),
        257: (4, values.shape[0]),
        258: (3, [bits] * samples),
        259: (3, {"none": 1, "lzw": 5, "deflate": 8}[blocks.compression]),
        262: (3, photometric),
        277: (3, samples),
        284: (3, 2 if blocks.planar else 1),
        339: (3, [_FORMATS[values.dtype.kind]] * samples),
        **({266: (3, 2)} if blocks.backwards else {}),
        **({317: (3, 2)} if blocks.predictor else {}),
        **blocks.tags,
        **(tags or {}),
    }
    return _file({tag: entry for tag, entry in found.items() if entry[1] is not None}, blocks, order, big)


class _Blocks:
    """Strips or tiles, encoded.

    Args:
        values: ``[H, W, S]``.
        order: Byte order.
        compression: ``'none'``, ``'lzw'`` or ``'deflate'``.
        planar: Every sample in strips or tiles of its own.
        rows: Per strip; ``None`` puts all into one.
        tile: Side of square tiles, a multiple of 16; ``None`` makes strips.
        predictor: Differences between neighbours are stored.
        backwards: The bits of every byte are stored from the last to the first (fill order 2).
    """

    def __init__(self, values, order, *, compression="none", planar=False, rows=None, tile=None, predictor=False, backwards=False):
        self.compression, self.planar, self.predictor, self.backwards = compression, planar, predictor, backwards
        height, width, samples = values.shape
        step_y, step_x = (tile, tile) if tile else (rows or height, width)
        planes = [values[..., i : i + 1] for i in range(samples)] if planar else [values]
        if tile:
            planes = [np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)), mode="edge") for plane in planes]
        pieces = [
            plane[y : y + step_y, x : x + step_x] for plane in planes for y in range(0, height, step_y) for x in range(0, width, step_x)
        ]
        self.encoded = [self._encode(piece, order) for piece in pieces]
        self.places, self.sizes = (324, 325) if tile else (273, 279)
        self.tags = {322: (3, tile), 323: (3, tile)} if tile else {278: (4, step_y)}

    def _encode(self, piece, order) -> bytes:
        if self.predictor:
            piece = np.concatenate([piece[:, :1], np.diff(piece, axis=1)], axis=1)
        if piece.dtype == bool:
            content = np.packbits(piece.reshape(len(piece), -1), axis=1).tobytes()
        else:
            content = piece.astype(piece.dtype.newbyteorder(order)).tobytes()
        content = {"none": bytes, "deflate": zlib.compress, "lzw": lzw}[self.compression](content)
        return content.translate(_BACKWARDS) if self.backwards else content


def lzw(content: bytes) -> bytes:
    """TIFF's LZW without any compression: the table is cleared before a code would need ten bits."""
    codes: list[int] = []
    for start in range(0, len(content), 250):
        codes += [256, *content[start : start + 250]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def _file(tags, blocks: _Blocks, order: str, big: bool) -> bytes:
    word = "Q" if big else "I"
    header = struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0)
    body = bytearray((b"II" if order == "<" else b"MM") + header)
    offsets = []
    for block in blocks.encoded:
        offsets.append(len(body))
        body += block + b"\0" * (len(block) % 2)
    tags = {blocks.places: (4, offsets), blocks.sizes: (4, [len(block) for block in blocks.encoded]), **tags}
    entries = b""
    for tag, (kind, value) in sorted(tags.items()):
        content, count = _value(kind, value, order)
        room = 8 if big else 4
        if len(content) > room:
            at = len(body)
            body += content + b"\0" * (len(content) % 2)
            content = struct.pack(order + word, at)
        entries += struct.pack(order + "HH" + word, tag, kind, count) + content.ljust(room, b"\0")
    body[8 if big else 4 : 16 if big else 8] = struct.pack(order + word, len(body))
    return bytes(body) + struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + struct.pack(order + word, 0)


def _value(kind: int, value, order: str) -> tuple[bytes, int]:
    if isinstance(value, bytes):
        return value, len(value) // {5: 8, 10: 8}.get(kind, 1)
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    return struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind] * len(items), *items), len(items)
