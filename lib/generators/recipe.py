"""The recipe of the generator head: how many fakes of which generators, and how the head is fitted."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from lib.core.errors import InputError
from lib.core.parameters import did_you_mean


@dataclass(frozen=True)
class Recipe:
    """Hold the recipe, as parameters/generators.yaml describes it."""

    seed: int
    fakes: int
    val_fakes: int
    pixel_model_steps: int
    autoencoder_steps: int
    gan_steps: int
    flow_matching_steps: int
    real: int
    ridge: float
    false_alarms: float
    recall: float

    def of_fakes(self) -> dict[str, int]:
        """Return the parameters that the fakes depend on."""
        own = ("seed", "fakes", "val_fakes")
        return {name: value for name, value in asdict(self).items() if name in own or name.endswith("_steps")}


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; raise InputError for a file that has not exactly its parameters, in their types."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({error}): give a file such as parameters/generators.yaml") from None
    known = {field.name: field.type for field in fields(Recipe)}
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no parameters: give a file such as parameters/generators.yaml")
    for name in content:
        if name not in known:
            raise InputError(f"{path} has no parameter {name!r}: {did_you_mean(str(name), known)}")
    for name, type_ in known.items():
        value = content.get(name)
        if type(value) is not type_ or value < 0 or (type_ is int and name != "seed" and value == 0):
            raise InputError(f"{path}: {name} is {value!r}: give a positive {type_.__name__}")
    return Recipe(**content)
