"""Whether two readings of a file differ by one edit and by nothing else."""

from __future__ import annotations

from campaigns.write_back.places import Items, Pairs, Plain, Scalar
from campaigns.write_back.scalars import STRING_TAG


def is_only_edit(before: Plain, after: Plain, path: tuple[str, ...], value: str) -> bool:
    """Whether `after` says what `before` says, with `value` at `path`."""
    if not path:
        return isinstance(before, Scalar) and _is_scalar(after, value, text=before.tag == STRING_TAG)
    if isinstance(before, Scalar):
        return before.text == "" and _is_nested(after, path, value)
    if isinstance(before, Items):
        return isinstance(after, Items) and _in_items(before, after, path, value)
    return isinstance(after, Pairs) and _in_pairs(before, after, path, value)


def _in_items(before: Items, after: Items, path: tuple[str, ...], value: str) -> bool:
    position = int(path[0])
    others = [number for number in range(len(before.items)) if number != position]
    return (
        len(before.items) == len(after.items)
        and all(before.items[number] == after.items[number] for number in others)
        and is_only_edit(before.items[position], after.items[position], path[1:], value)
    )


def _in_pairs(before: Pairs, after: Pairs, path: tuple[str, ...], value: str) -> bool:
    known = [number for number, (key, _) in enumerate(before.pairs) if isinstance(key, Scalar) and key.text == path[0]]
    if not known:
        return after.pairs[:-1] == before.pairs and _is_nested(Pairs(after.pairs[-1:]), path, value)
    if len(after.pairs) != len(before.pairs):
        return False
    rest = zip(before.pairs, after.pairs, strict=True)
    return all(
        was == now or (number == known[0] and was[0] == now[0] and is_only_edit(was[1], now[1], path[1:], value))
        for number, (was, now) in enumerate(rest)
    )


def _is_nested(plain: Plain, path: tuple[str, ...], value: str) -> bool:
    """Whether `plain` is {a: {b: value}} for the path (a, b)."""
    for key in path:
        if not (isinstance(plain, Pairs) and len(plain.pairs) == 1 and plain.pairs[0][0] == Scalar(STRING_TAG, key)):
            return False
        plain = plain.pairs[0][1]
    return _is_scalar(plain, value, text=False)


def _is_scalar(plain: Plain, value: str, *, text: bool) -> bool:
    return isinstance(plain, Scalar) and plain.text == value and (plain.tag == STRING_TAG or not text)
