"""Numbers by what bounds them: types for the fields of configurations, in which every number has a lower and an upper bound.

The bounds are wide. They hold off what no machine can do (a convolution of 10⁹ channels, a loop over 10⁹ epochs), what
overflows or vanishes in float32, and what is a slip of the keyboard; not what is unwise.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError


def whole(value: Any) -> Any:
    """Refuses what Python takes for equal to an integer, in fields of `Literal` integers: true and 1.0 for 1."""
    if type(value) is not int:
        raise PydanticCustomError("int_type", "expected an integer")
    return value


Count = Annotated[int, Field(ge=1, le=1_000_000)]
"""how many there are"""
Few = Annotated[int, Field(ge=1, le=100)]
"""how many states follow one another, or by what a width is multiplied"""
Layers = Annotated[int, Field(ge=1, le=16)]
"""how many layers follow one another; `check` traces each, which takes time"""
Width = Annotated[int, Field(ge=1, le=65_536)]
"""channels of a layer"""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""of a random number generator: any that fits into 64 bits with its sign"""
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]
"""a scale: in float32, so are its square and its inverse"""
Factor = Annotated[float, Field(ge=0, le=1e6)]
"""a weight; 0 switches off"""
Share = Annotated[float, Field(ge=0, lt=1)]
"""a fraction below 1"""
Days = Annotated[float, Field(gt=0, le=1e6)]
"""a length of time, days"""

WHOLE = BeforeValidator(whole)
