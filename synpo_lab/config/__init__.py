"""The single schema: YAML files, command-line `--set`, the launch form and the stored run.yaml are all a `RunConfig`.

One model per stage. Every field says what it does and what it trades. Defaults are the paper's (SynPO, arXiv 2410.06961,
section 3.1 and appendix C; SimPO's from princeton-nlp/SimPO) wherever the paper gives one; the pocket configs in
`synpo_lab/pocket/configs/` set sizes for a laptop. A file may start from a built-in config: `base: pocket`.
"""

from synpo_lab.config.engine import EngineConfig, OpenAIConfig, RayConfig, SamplingConfig, VllmConfig
from synpo_lab.config.reading import builtin_names, load, parse
from synpo_lab.config.run import RunConfig
from synpo_lab.config.section import Section
from synpo_lab.config.stages import (
    EvaluationConfig,
    EyeConfig,
    FilterConfig,
    ImproverConfig,
    JudgeConfig,
    KeywordsConfig,
    PairingConfig,
    PoolConfig,
    PromptsConfig,
    SamplesConfig,
    ScorerConfig,
    SourceConfig,
    ValidationConfig,
)
from synpo_lab.config.training import LoraConfig, SFTConfig, SimPOConfig, TrainerConfig, TrainingConfig

__all__ = [
    "EngineConfig",
    "EvaluationConfig",
    "EyeConfig",
    "FilterConfig",
    "ImproverConfig",
    "JudgeConfig",
    "KeywordsConfig",
    "LoraConfig",
    "OpenAIConfig",
    "PairingConfig",
    "PoolConfig",
    "PromptsConfig",
    "RayConfig",
    "RunConfig",
    "SFTConfig",
    "SamplesConfig",
    "SamplingConfig",
    "ScorerConfig",
    "Section",
    "SimPOConfig",
    "SourceConfig",
    "TrainerConfig",
    "TrainingConfig",
    "ValidationConfig",
    "VllmConfig",
    "builtin_names",
    "load",
    "parse",
]
