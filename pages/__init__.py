"""What people see: one module per page. Reads through `storage` queries, acts through `synpo_lab.jobs`."""

import os

# Read by gradio when it is first imported: nothing that a visitor does is reported to anyone.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
