"""The loops over bytes that decide tako's speed: native where built, else Python.

``TAKO_PURE=1`` in the environment hides the native twin. Both behave the same, except
for speed; property tests hold them equal. What they do is described in ``pure``.
"""

import contextlib

from tako.native import pure
from tako.native.pure import (
    FieldTable,
    Inbox,
    UnmaskedInbox,
    encode_data_frame,
    encode_data_frames,
    encode_frame,
    encode_masked_data_frame,
    encode_masked_frame,
    encode_response,
    frame_head,
    scan_frames,
    scan_unmasked_frames,
    send_now,
    split_fields,
    split_frames,
    split_head,
    take_data,
    unmask,
    usual_request,
    weigh,
)


with contextlib.suppress(ImportError):  # not built: slower, otherwise the same
    from tako.native.speedups import (  # type: ignore[assignment]
        FieldTable,
        Inbox,
        UnmaskedInbox,
        encode_data_frame,
        encode_data_frames,
        encode_frame,
        encode_masked_data_frame,
        encode_masked_frame,
        encode_response,
        scan_frames,
        scan_unmasked_frames,
        send_now,
        split_fields,
        split_frames,
        split_head,
        take_data,
        unmask,
        usual_request,
        weigh,
    )

NATIVE: bool = unmask is not pure.unmask
"""Whether the native twin is in use."""

__all__ = [
    "NATIVE",
    "FieldTable",
    "Inbox",
    "UnmaskedInbox",
    "encode_data_frame",
    "encode_data_frames",
    "encode_frame",
    "encode_masked_data_frame",
    "encode_masked_frame",
    "encode_response",
    "frame_head",
    "scan_frames",
    "scan_unmasked_frames",
    "send_now",
    "split_fields",
    "split_frames",
    "split_head",
    "take_data",
    "unmask",
    "usual_request",
    "weigh",
]
