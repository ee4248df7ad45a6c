"""XML from outside: parsed without DTD, entities or external references, and only up to a size.

All of these begin with a document type, and expat reports one where it begins, before anything in it is read, expanded
or opened: there the parser stops. defusedxml does the same on ElementTree's parser in Python; this is the one in C, to
which a builder may say no.
"""

from __future__ import annotations

from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from luab_jax.errors import DataError

MAX_XML_BYTES = 8 << 20
"""An annotation of the release takes 2 to 20 kB; a trace of 10,000 samples about 1 MB."""


MAX_TAGS = 500_000
"""Opening and closing: a trace of 10,000 samples has 80,000, and each costs 0.3 kB of memory, nested or not."""


class _Refused(Exception):  # noqa: N818 (it never leaves this module)
    pass


class _NoDocumentType(TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise _Refused


def parse(data: bytes) -> Element:
    """The root element; raises `DataError` that gives the reason and leaves naming the file to the caller."""
    if not data.strip():
        raise DataError("the file is empty")
    if len(data) > MAX_XML_BYTES:
        raise DataError(f"larger than {MAX_XML_BYTES >> 20} MiB, which no annotation is")
    if data.count(b"<") > MAX_TAGS:
        raise DataError(f"more than {MAX_TAGS:,} tags, which no annotation has")
    parser = XMLParser(target=_NoDocumentType())
    try:
        parser.feed(data)
        return parser.close()
    except _Refused as e:
        raise DataError("declares a DTD or an entity, which is refused") from e
    except ParseError as e:
        raise DataError(f"not well-formed XML: {e}") from e
    except (ValueError, LookupError) as e:  # an encoding that expat or Python does not know
        raise DataError(f"not readable as XML: {e}") from e
