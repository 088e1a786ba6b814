"""SynPO Lab: annotation-free alignment you can watch. The method, with no Gradio and no SQL."""

__version__ = "0.1.0"
