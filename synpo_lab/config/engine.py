"""How answers are generated, and on what."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from synpo_lab.config.section import Section


class SamplingConfig(Section):
    temperature: float = Field(0.7, ge=0, le=5, description="0 is greedy. Higher: more varied answers, more mistakes.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus: sample from the smallest set of tokens with this mass.")
    max_new_tokens: int = Field(
        1024, ge=1, description="Longest answer in tokens. Longer ones are cut and marked 'length'."
    )


class VllmConfig(Section):
    """Settings of the vllm engine."""

    gpu_memory_utilization: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share of a GPU's memory for weights and cache; a training beside it needs the rest.",
    )
    max_model_len: int | None = Field(
        None,
        ge=8,
        description="Tokens of prompt and answer together. Less: more answers at once. Default: the model's.",
    )
    max_num_seqs: int = Field(256, ge=1, description="Most answers decoded together.")
    tensor_parallel: int = Field(1, ge=1, description="GPUs that share one copy of the weights.")
    data_parallel: int = Field(1, ge=1, description="Copies of the weights, each on GPUs of its own.")
    enforce_eager: bool | None = Field(
        None, description="No compilation: starts sooner, generates slower on a GPU. Default: eager on CPU only."
    )
    prefix_caching: bool = Field(True, description="Read what prompts have in common once.")
    max_lora_rank: int = Field(
        64,
        ge=1,
        le=512,
        description="Adapters up to this rank can be served over one base; larger where the run trains such.",
    )
    cpu_cache_gib: int = Field(2, ge=1, description="Memory for keys and values on a CPU, in GiB.")


class OpenAIConfig(Section):
    """Settings of the openai engine: any server with an OpenAI-compatible /chat/completions."""

    base_url: str = Field(
        "http://127.0.0.1:8000/v1", description="Where the server answers: the address that ends before /chat."
    )
    model: str | None = Field(None, description="M_0's name on the server. Default: the first that /models lists.")
    key_variable: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key; its value is never stored or shown."
    )
    concurrency: int = Field(
        64, ge=1, le=4096, description="Most requests at once. Starts low, rises while all goes well, halves when not."
    )
    timeout_s: float = Field(300, gt=0, description="Seconds until a request without an answer is tried again.")
    attempts: int = Field(8, ge=1, le=100, description="Times a request is tried before it is given up.")
    trained: Literal["transformers", "vllm"] = Field(
        "transformers", description="What generates with G, R_t and M_t, which no server can load: an engine here."
    )

    @field_validator("key_variable")
    @classmethod
    def _a_variable_not_a_key(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", name):  # not repeated: it may be a key
            raise ValueError("name the environment variable that holds the key (like OPENAI_API_KEY), never the key")
        return name

    @field_validator("base_url")
    @classmethod
    def _an_address_without_secrets(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query:
            raise ValueError("an address without user, password or query: keys come from the environment")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no http(s) address, for example http://127.0.0.1:8000/v1")
        return url.rstrip("/")


class RayConfig(Section):
    """Settings of the ray engine: the same work on the machines of a Ray cluster."""

    address: str | None = Field(
        None,
        description="The cluster ('auto', 'ray://host:10001'). Default: one started on this machine. Every machine must see "
        "the lab home at the same path (a shared disk).",
    )
    workers: int = Field(2, ge=1, description="Engines at work, each with a copy of the weights.")
    each: Literal["transformers", "vllm", "scripted"] = Field("transformers", description="What each worker runs.")
    cpus: float = Field(1, ge=0, description="CPUs reserved per worker.")
    gpus: float = Field(0, ge=0, description="GPUs reserved per worker.")
    batch: int = Field(256, ge=1, description="Requests handed to a worker at a time; a lost worker's are done again.")


class EngineConfig(Section):
    kind: Literal["transformers", "vllm", "openai", "ray", "scripted"] = Field(
        "transformers",
        description="What generates text: transformers or vllm in this process, a server, a Ray cluster, or a script.",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 on CUDA (float16 before Ampere), else float32."
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Prompts decoded together (transformers). Halved when memory runs out. Default: what memory holds.",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads. Default: the physical cores this process may use."
    )
    vllm: VllmConfig = Field(default_factory=VllmConfig, description="For kind vllm.")
    openai: OpenAIConfig = Field(default_factory=OpenAIConfig, description="For kind openai.")
    ray: RayConfig = Field(default_factory=RayConfig, description="For kind ray.")
