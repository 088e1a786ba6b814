"""Load, save and recognise causal language models: local folders and 'hub:OWNER/NAME'.

A local folder never touches the network. Code inside a model folder never runs unless the config says so. Weights are
written as safetensors into a temporary folder that is renamed when complete.
"""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from huggingface_hub import snapshot_download
from jinja2 import Environment, TemplateSyntaxError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from synpo_lab.engines.adapters import ADAPTER_CONFIG, Adapter, adapter_of
from synpo_lab.errors import ModelError

logging.disable_progress_bar()  # standard output and error belong to the lab

HUB = "hub:"
TEMPLATE_FILE = "chat_template.jinja"
# A question and an answer in plain words, for a model that was never taught to chat; its EOS ends an answer.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
    "{% else %}### {{ message['role'] | capitalize }}:\n{{ message['content'] }}\n\n{% endif %}"
    "{% if message['role'] == 'user' %}### Assistant:\n{% endif %}{% endfor %}"
)
SMALL = 20_000_000  # parameters
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def load_tokenizer(
    path: str | Path, *, trust_remote_code: bool = False, revision: str | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, fit for chat: it has a chat template, an end token and a padding token.

    `revision` is a hub model's. Raises ModelError when it cannot be read or lacks one of the first two.
    """
    name, options = _source(path, trust_remote_code)
    options |= {"revision": revision} if revision else {}
    tokenizer = reading(path, "tokenizer", lambda: AutoTokenizer.from_pretrained(name, **options))
    return check_tokenizer(tokenizer, where=str(path))


def check_tokenizer(tokenizer: Any, *, where: str) -> PreTrainedTokenizerBase:
    """`tokenizer`, with the end token for padding if it has none. Raises ModelError if it cannot chat."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {where} has no chat template",
            hint="set chat_template in the config to a Jinja file or to 'plain', put a chat_template.jinja beside "
            "tokenizer.json, or start from an instruction-tuned model",
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of {where} has no end-of-sequence token: answers would never end",
            hint='set "eos_token" in its tokenizer_config.json to the token that ends an assistant turn',
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    checked: PreTrainedTokenizerBase = tokenizer
    return checked


def load_model(
    path: str | Path, *, device: str = "auto", dtype: Dtype = "auto", trust_remote_code: bool = False
) -> PreTrainedModel:
    """The causal language model at `path`, in evaluation mode on `device`. An adapter is merged into its base.

    Raises ModelError naming what is missing.
    """
    target = pick_device(device)
    name, options = _source(path, trust_remote_code)
    options["dtype"] = pick_dtype(dtype, target)
    if (Path(name) / ADAPTER_CONFIG).is_file():
        return on_device(_load_adapter(Path(name), options), target, str(path)).eval()
    model = reading(path, "model", lambda: AutoModelForCausalLM.from_pretrained(name, **options))
    return on_device(model, target, str(path)).eval()


def on_device(model: Any, device: torch.device, name: str) -> Any:
    """`model`, called `name`, moved to `device`. Raises ModelError when its memory is too small."""
    try:
        return model.to(device)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise _too_big(name, str(device)) from error


def _too_big(name: str, where: str) -> ModelError:
    return ModelError(
        f"the model {name} does not fit in the free memory of {where}",
        hint="end what else uses that memory, take another device, or a smaller model",
    )


def save_model(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, state: dict[str, Any] | None = None
) -> Path:
    """Write weights, config and tokenizer to `folder`, whole or not at all. An older model there is replaced.

    Of a model with an adapter only the adapter is written. It names its base relative to its own folder, so that the two
    can be moved together, or as the hub does. `state` are weights gathered elsewhere, where they are sharded.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.draft-*"):  # by a killed process: gigabytes
        shutil.rmtree(left, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.draft-", dir=folder.parent))
    try:
        model.save_pretrained(draft, **({} if state is None else {"state_dict": state}))
        tokenizer.save_pretrained(draft)
        if (draft / ADAPTER_CONFIG).is_file():
            _name_the_base(draft / ADAPTER_CONFIG, folder)
        draft.chmod(0o755)
        replace_folder(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def replace_folder(draft: Path, folder: Path) -> None:
    """Put the finished `draft` (on the same disk) in the place of `folder`, its bytes on disk first."""
    for file in draft.rglob("*"):
        if file.is_file():
            _flush(file)
    _flush(draft)
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
        os.replace(folder, old / "model")
        os.replace(draft, folder)
        shutil.rmtree(old)
    else:
        os.replace(draft, folder)
    _flush(folder.parent)


def fingerprint(folder: Path) -> str:
    """16 hex digits of the weights in `folder` (names and bytes). Raises ModelError where there are none."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    if not files:
        raise ModelError(f"no weights in {folder}", hint="a model folder holds model.safetensors")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def use_threads(threads: int | None, parameters: int = 0) -> int:
    """Let torch use so many CPU threads in this process, and say how many. None: what suits a model of that size.

    That is OMP_NUM_THREADS if set, else the physical cores, but one for a small model: its matrices are too small to
    share, and when another process holds a core, threads that wait for each other make it 20 times slower.
    """
    chosen = threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
    if not chosen:
        chosen = 1 if 0 < parameters < SMALL else _physical_cores()
    torch.set_num_threads(chosen)
    return chosen


def _physical_cores() -> int:
    """Those this process may run on, one at least."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(psutil.cpu_count(logical=False) or 1, allowed or 1)


def out_of_memory(error: BaseException) -> bool:
    """Whether torch failed for lack of memory, on the accelerator or (by other exceptions) on the CPU, MPS or in cuBLAS."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    told = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in told)


def pick_device(name: str) -> torch.device:
    """'auto' is the first of CUDA, MPS, CPU that is there. Raises ModelError for a device that is not."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"no device is called {name!r}", hint="use auto, cpu, cuda, cuda:1 or mps") from None
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= present.get(device.type, 0):
        raise ModelError(f"device {name!r} is not on this machine", hint="set engine.device to auto or cpu")
    return device


def pick_dtype(name: Dtype, device: torch.device) -> torch.dtype:
    """'auto' is bfloat16 on CUDA (float16 on what is older than Ampere) and float32 elsewhere."""
    if name == "auto" and device.type == "cuda":
        return torch.float16 if _before_ampere(device) else torch.bfloat16
    if name == "auto":
        return torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def _before_ampere(device: torch.device) -> bool:
    """NVIDIA's GPUs below compute capability 8.0 emulate bfloat16, slowly, and vLLM refuses it there."""
    if torch.version.hip or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_capability(device) < (8, 0)


def _source(path: str | Path, trust_remote_code: bool) -> tuple[str, dict[str, Any]]:
    """What from_pretrained is called with. Raises ModelError where a local folder is no model folder."""
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if str(path).startswith(HUB):
        return str(path).removeprefix(HUB), options
    folder = Path(path)
    if not folder.is_dir():
        raise ModelError(
            f"no model folder at {str(path)!r}",
            hint="give a folder that holds config.json and model.safetensors, or 'hub:OWNER/NAME'",
        )
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ModelError(f"{folder} has no config.json", hint="point at the folder that save_pretrained wrote")
    return str(folder), options | {"local_files_only": True}


def reading(path: str | Path, what: str, read: Callable[[], Any]) -> Any:
    """What `read` returns; what it raises as a ModelError that names the `what` of `path`."""
    try:
        return read()
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"the {what} of {path} wants to run its own code",
                hint="set trust_remote_code: true in the config if you trust its author",
            ) from None
        if out_of_memory(error):
            raise _too_big(str(path), "this machine") from error
        raise ModelError(
            f"the {what} of {path} cannot be loaded: {_first_line(error)}",
            hint=f"check that every file of the {what} is there and whole; remove a broken download to fetch it again",
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _load_adapter(folder: Path, options: dict[str, Any]) -> Any:
    """The base with the adapter merged into it."""
    from peft import PeftModel

    model = load_base(folder, options["dtype"], trust_remote_code=options["trust_remote_code"])
    return reading(folder, "adapter", lambda: PeftModel.from_pretrained(model, str(folder)).merge_and_unload())


def load_base(folder: Path, dtype: torch.dtype, *, trust_remote_code: bool = False, **more: Any) -> PreTrainedModel:
    """The whole model that the adapter in `folder` stands on. Raises ModelError when it is not where the adapter says."""
    adapter = adapter_of(folder)
    if adapter is None:
        raise ModelError(f"{folder} holds no adapter", hint="point at a folder that peft's save_pretrained wrote")
    try:
        name, options = _source(adapter.base, trust_remote_code)
    except ModelError:
        raise ModelError(
            f"the adapter {folder} stands on {adapter.base}, where no model is",
            hint=f"put that model back, or name its place as base_model_name_or_path in {folder / ADAPTER_CONFIG}",
        ) from None
    model: PreTrainedModel = reading(
        adapter.base, "model", lambda: AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **options, **more)
    )
    return model


def stored_dtype(path: str | Path, *, trust_remote_code: bool = False) -> torch.dtype:
    """In which the weights at `path` are stored: a folder, 'hub:OWNER/NAME', or an adapter (then its base's)."""
    config = read_config(path, trust_remote_code=trust_remote_code)
    found = config.get_text_config().dtype or config.dtype
    return found if isinstance(found, torch.dtype) else torch.float32


def read_config(path: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The config of the model at `path`, or of the base of the adapter there. Raises ModelError when it cannot be read."""
    adapter = adapter_of(path)
    name, options = _source(adapter.base if adapter else path, trust_remote_code)
    return reading(path, "config", lambda: AutoConfig.from_pretrained(name, **options))


def with_chat_template(policy: str | Path, template: str, folder: Path) -> Path:
    """`policy` with another chat template, in `folder`: links to its files and the template beside them.

    `template` is 'plain' or a Jinja file. Raises ModelError when that is missing or no Jinja.
    """
    text = PLAIN_TEMPLATE if template == "plain" else _jinja(Path(template))
    name, _ = _source(policy, False)
    source = Path(name) if Path(name).is_dir() else Path(reading(policy, "model", lambda: snapshot_download(name)))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file.resolve())
    if adapter := adapter_of(source):
        _move_adapter(adapter, folder)
    (folder / TEMPLATE_FILE).unlink(missing_ok=True)
    (folder / TEMPLATE_FILE).write_text(text, encoding="utf-8")
    return folder


def _move_adapter(adapter: Adapter, folder: Path) -> None:
    """Make of the links to an adapter's files in `folder` an adapter: it finds its base from there, and has a tokenizer."""
    config = json.loads((adapter.folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = adapter.base.removeprefix(HUB)
    (folder / ADAPTER_CONFIG).unlink()
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if not (folder / "tokenizer_config.json").exists():
        name, options = _source(adapter.base, False)
        reading(name, "tokenizer", lambda: AutoTokenizer.from_pretrained(name, **options)).save_pretrained(folder)


def _jinja(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
        Environment().parse(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"the chat template {str(file)!r} cannot be read: {error}",
            hint="set chat_template to 'plain' or to a Jinja file",
        ) from None
    except TemplateSyntaxError as error:
        raise ModelError(
            f"the chat template {file} is no Jinja: line {error.lineno}, {error.message}",
            hint="compare with the chat_template.jinja of an instruction-tuned model",
        ) from None
    return text


def _name_the_base(file: Path, folder: Path) -> None:
    """Rewrite where the adapter that will lie in `folder` looks for its base."""
    config = json.loads(file.read_text(encoding="utf-8"))
    base = str(config["base_model_name_or_path"])
    if Path(base).is_dir():
        config["base_model_name_or_path"] = os.path.relpath(base, folder)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (file.parent / "README.md").unlink(missing_ok=True)  # peft's form of a model card, to be filled in by hand


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
