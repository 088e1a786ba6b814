"""A scorer's weights from a folder or the Hub: whole, or a ModelError that says what stands in the way."""

from typing import Any

from transformers import AutoConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from synpo_lab.config import ScorerConfig
from synpo_lab.errors import MissingExtra, ModelError
from synpo_lab.models import HUB, on_device, pick_device, pick_dtype
from synpo_lab.scorers.identity import where


def load_weights(kind: Any, config: ScorerConfig) -> Any:
    """The model that `kind.from_pretrained` makes of scorer.model, on its device, in evaluation mode.

    Weights that the class asks for and the files lack would be random numbers, and so would its scores: a ModelError.
    """
    name, device = where(config), pick_device(config.device)
    model, told = loading(
        name,
        lambda: kind.from_pretrained(
            name.removeprefix(HUB),
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            dtype=pick_dtype(config.dtype, device),
            output_loading_info=True,
        ),
    )
    if missing := sorted(told["missing_keys"]):
        raise _without(name, missing, own_code=bool(getattr(model.config, "auto_map", None)))
    return on_device(model, device, name).eval()


def inspect_code(config: ScorerConfig, auto: str) -> None:
    """Raises what stands in the way of the model's config or, where that may run, of its repository's own class."""
    name = where(config)
    plain, how = name.removeprefix(HUB), {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
    found = loading(name, lambda: AutoConfig.from_pretrained(plain, **how))
    own = getattr(found, "auto_map", None) or {}
    if auto in own and config.trust_remote_code:
        loading(name, lambda: get_class_from_dynamic_module(own[auto], plain, revision=config.revision))


def loading(name: str, load: Any) -> Any:
    """What `load` returns; what it raises as a ModelError or MissingExtra with the next step."""
    try:
        return load()
    except ImportError as error:
        if "cannot import name" in str(error):
            raise ModelError(
                f"the code of {name} was written for another version of what it imports: {_told(error)}",
                hint="take a later scorer.revision of it, or another scorer",
            ) from error
        raise MissingExtra(f"{name} needs a package: {_told(error)}", hint="install it beside the lab") from None
    except Exception as error:  # of many libraries, and of a repository's own code
        own_code = "trust_remote_code" in str(error)
        raise ModelError(
            f"the scorer's model {name} "
            + ("runs code of its own" if own_code else f"cannot be loaded: {_told(error)}"),
            hint="set scorer.trust_remote_code: true if you trust its author"
            if own_code
            else "scorer.model is a model folder or hub:OWNER/NAME; scorer.revision a commit or tag of it",
        ) from error


def _without(name: str, missing: list[str], *, own_code: bool) -> ModelError:
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return ModelError(
        f"the weights of {name} lack {shown}: its scores would be random",
        hint="this model is a class of its repository's own: set scorer.trust_remote_code: true if you trust its author"
        if own_code
        else "this is no model of the kind scorer.name says: reward-model is a sequence classifier with one label",
    )


def _told(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
