"""From labelled text or sequences to a verified LSTM classifier behind Triton Inference Server."""

import os

# ONNX Runtime 1.31 on Linux keeps a number of the machine in ~/.cache and reports to its maker; a process that cannot
# reach it takes up to ten seconds to end. This is read when ONNX Runtime is imported, by child processes too; set it to
# 0 to report.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
