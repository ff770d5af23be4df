"""A message of OTLP without content and credentials, and with what the captain knows of its sender.

message as it was decoded, Mask, Labels ──> the same message, changed in place

Each text of a message is gone over, wherever the protocol has one: keys and values of attributes at any depth, names,
bodies of log records, descriptions, states. Bytes are dropped, but for ids of traces and spans of the right length.
Attributes below ``ocaptain.`` are the captain's: what an agent sent of these is removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.telemetry.decode import data_points
from ocaptain.telemetry.mask import dropped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ocaptain.telemetry.mask import Mask

PREFIX = "ocaptain."
#: Resources have an attribute for each, so that a collector can tell voyages, ships and tasks apart.
VOYAGE, SHIP, TASK, ATTEMPT = (PREFIX + name for name in ("voyage", "ship", "task", "attempt"))
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8


@dataclass(frozen=True)
class Labels:
    """Whose telemetry it is; "" and 0 where that is not known.

    Attributes:
        voyage, ship, task: ids.
        attempt: its number, from 1.
    """

    voyage: str = ""
    ship: str = ""
    task: str = ""
    attempt: int = 0

    def attributes(self) -> Mapping[str, str | int]:
        """Return the attributes of resources."""
        known: dict[str, str | int] = {VOYAGE: self.voyage, SHIP: self.ship, TASK: self.task, ATTEMPT: self.attempt}
        return {key: value for key, value in known.items() if value}


def clean(message: Any, mask: Mask, labels: Labels) -> None:
    """Clean a message in place.

    Args:
        message: an ``Export…ServiceRequest``.
        mask: of texts.
        labels: of each of its resources.
    """
    _Cleaner(mask, labels).request(message)


class _Cleaner:
    def __init__(self, mask: Mask, labels: Labels) -> None:
        self._mask = mask
        self._labels = labels.attributes()

    def request(self, message: Any) -> None:
        """Clean whichever request it is."""
        kind = message.DESCRIPTOR.fields[0].name
        clean_one = {"scope_metrics": self._metric, "scope_logs": self._record, "scope_spans": self._span}
        for group in getattr(message, kind):
            self._resource(group)
            kept = f"scope_{kind.removeprefix('resource_')}"
            for scoped in getattr(group, kept):
                self._texts(scoped, ("schema_url",))
                self._texts(scoped.scope, ("name", "version"))
                self._attributes(scoped.scope.attributes)
                for one in getattr(scoped, _ITEMS[kept]):
                    clean_one[kept](one)

    def _resource(self, group: Any) -> None:
        self._texts(group, ("schema_url",))
        group.resource.ClearField("entity_refs")
        found = group.resource.attributes
        self._attributes(found)
        for at in reversed([at for at, one in enumerate(found) if one.key.startswith(PREFIX)]):
            del found[at]
        for key, value in self._labels.items():
            one = found.add(key=key)
            if isinstance(value, int):
                one.value.int_value = value
            else:
                one.value.string_value = value

    def _texts(self, message: Any, fields: Iterable[str]) -> None:
        for field in fields:
            if text := getattr(message, field):
                _replace(message, field, text, self._mask.text(text))

    def _attributes(self, found: Any) -> None:
        harmless_keys, harmless_texts = self._mask.harmless_keys, self._mask.harmless_texts
        for one in found:  # this is where the time goes: most keys and texts were seen before
            is_content = False
            if (key := one.key) not in harmless_keys:
                new, is_content = self._mask.key(key)
                _replace(one, "key", key, new)
            value = one.value
            text = value.string_value  # "" of any other kind
            if text:
                if text in harmless_texts and not is_content:
                    continue
                _replace(value, "string_value", text, self._said(text, is_content=is_content))
            elif (kind := value.WhichOneof("value")) not in _PLAIN:
                self._value(value, kind, is_content=is_content)

    def _said(self, text: str, *, is_content: bool) -> str:
        return dropped(len(text), "characters") if is_content else self._mask.text(text)

    def _value(self, value: Any, kind: str | None, *, is_content: bool) -> None:
        """Clean a value of a kind that is not plain."""
        if kind == "bytes_value":
            value.string_value = dropped(len(value.bytes_value), "bytes")
        elif kind in {"array_value", "kvlist_value"} and is_content:
            value.string_value = dropped(value.ByteSize(), "bytes")
        elif kind == "kvlist_value":
            self._attributes(value.kvlist_value.values)
        elif kind == "array_value":
            for one in value.array_value.values:
                if text := one.string_value:
                    _replace(one, "string_value", text, self._mask.text(text))
                elif (inner := one.WhichOneof("value")) not in _PLAIN:
                    self._value(one, inner, is_content=False)

    def _metric(self, metric: Any) -> None:
        self._texts(metric, ("name", "description", "unit"))
        self._attributes(metric.metadata)
        has_exemplars = metric.WhichOneof("data") != "summary"
        for point in data_points(metric):
            self._attributes(point.attributes)
            if has_exemplars and point.exemplars:
                for one in point.exemplars:
                    self._attributes(one.filtered_attributes)
                    _check_ids(one)

    def _record(self, record: Any) -> None:
        self._texts(record, ("severity_text",))
        if record.event_name:
            record.event_name = self._mask.name(record.event_name)
        kind = record.body.WhichOneof("value")
        if text := record.body.string_value:  # the name of an event, or somebody's words
            _replace(record.body, "string_value", text, self._mask.name(text))
        elif kind not in _PLAIN:
            self._value(record.body, kind, is_content=True)
        self._attributes(record.attributes)
        _check_ids(record)

    def _span(self, span: Any) -> None:
        span.name = self._mask.name(span.name)
        self._texts(span, ("trace_state",))
        self._attributes(span.attributes)
        _check_ids(span)
        if len(span.parent_span_id) not in {0, _SPAN_ID_BYTES}:
            span.parent_span_id = b""
        for event in span.events:
            event.name = self._mask.name(event.name)
            self._attributes(event.attributes)
        for link in span.links:
            self._texts(link, ("trace_state",))
            self._attributes(link.attributes)
            _check_ids(link)
        if span.status.message:  # an error's text, which quotes what was said
            span.status.message = dropped(len(span.status.message), "characters")


_ITEMS = {"scope_metrics": "metrics", "scope_logs": "log_records", "scope_spans": "spans"}
#: Kinds of values that hold no text; of strings this is the empty one.
_PLAIN = frozenset({"int_value", "double_value", "bool_value", "string_value", None})


def _replace(message: Any, field: str, old: str, new: str) -> None:
    if new != old:
        setattr(message, field, new)


def _check_ids(message: Any) -> None:
    """Remove ids that are none: they could hold anything."""
    if len(message.trace_id) not in {0, _TRACE_ID_BYTES}:
        message.trace_id = b""
    if len(message.span_id) not in {0, _SPAN_ID_BYTES}:
        message.span_id = b""
