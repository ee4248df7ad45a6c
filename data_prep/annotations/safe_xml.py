"""XML from outside: parsed without DTD, entities or external references, and only up to a size.

defusedxml stops at the declaration, before anything is expanded or opened.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from luab_jax.errors import DataError

MAX_XML_BYTES = 8 << 20
"""An annotation of the release takes 2 to 20 kB; a trace of 10,000 samples about 1 MB."""


def parse(data: bytes) -> Element:
    """The root element; raises `DataError` that gives the reason and leaves naming the file to the caller."""
    if not data.strip():
        raise DataError("the file is empty")
    if len(data) > MAX_XML_BYTES:
        raise DataError(f"larger than {MAX_XML_BYTES >> 20} MiB, which no annotation is")
    try:
        return defusedxml.ElementTree.fromstring(data, forbid_dtd=True)
    except DefusedXmlException as e:
        raise DataError(f"declares a DTD or an entity, which is refused ({type(e).__name__})") from e
    except ParseError as e:
        raise DataError(f"not well-formed XML: {e}") from e
    except (ValueError, LookupError) as e:  # an encoding that expat or Python does not know
        raise DataError(f"not readable as XML: {e}") from e
