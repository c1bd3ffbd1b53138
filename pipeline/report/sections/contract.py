"""The contract: what the model takes and gives."""

from pipeline.report.blocks import Cell, Column, Group, Section, Table
from pipeline.report.records import Records
from pipeline.signature import Tensor


def section(records: Records) -> Section:
    """Show each tensor's name, type and shape."""
    lead = "What the exported model takes and gives: one graph from raw input to label, as Triton serves it."
    signature = records.signature
    if signature is None:
        return Section("contract", "Contract", lead, missing="export")
    columns = (Column("tensor"), Column("type"), Column("shape"))
    groups = (Group(_rows(signature.inputs), "Inputs"), Group(_rows(signature.outputs), "Outputs"))
    return Section("contract", "Contract", lead, (Table("Tensors of the model", columns, groups),))


def _rows(tensors: tuple[Tensor, ...]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (Cell(tensor.name), Cell(tensor.dtype), Cell(" × ".join(str(axis) for axis in tensor.shape)))
        for tensor in tensors
    )
