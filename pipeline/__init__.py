"""From labelled text or sequences to a verified LSTM classifier behind Triton Inference Server."""

__version__ = "0.1.0"
