"""FastAPI with PyTorch: ``uvicorn with_fastapi:app --workers N``."""

from eager import from_environment
from fastapi import FastAPI
from pydantic import BaseModel

classifier = from_environment()
app = FastAPI()


class Texts(BaseModel):
    """What is asked."""

    texts: list[str]


class Labels(BaseModel):
    """What is answered."""

    labels: list[str]


@app.post("/classify")
def classify(request: Texts) -> Labels:
    """Answer in a thread of the pool, as FastAPI's documentation says for what blocks."""
    return Labels(labels=classifier.labels(request.texts))
