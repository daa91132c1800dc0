"""Write a corpus of odd but real kinds of mesh files, each with the result that is correct for it.

All show the same thing unless they say otherwise: a square of 0.1 m in the x, z plane whose four quarters
have a colour each, so that every flip, turn and shift can be told.
"""

from odd_meshes import gltf, obj, ply, stl
from odd_meshes.base import CORPUS, Odd

__all__ = ["CORPUS", "Odd", "gltf", "obj", "ply", "stl"]
