"""Configurations of stock media servers and units of systemd, as text, from one record of what they have to do.

One module for each server's language, each a pure function from a ``Site`` to text; ``quoting`` puts values from
outside in their place, or refuses them. No disk, no network, no environment: ``resto config`` brings and prints.
"""

from __future__ import annotations

from .site import Site
from .tree import Node, parse_tree

__all__ = ["Node", "Site", "parse_tree"]
