"""Sessions of the stage. The module has the name of the interface, and the class that of its resource."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.transformer import ConfigProblem, Error_InvalidBatch, Error_InvalidConfig, Transformed

from batch import broken
from config import parse
from redact import Redactor
from settings import Wrong


class Session(exports.transformer.Session):
    def __init__(self, redactor):
        self.redactor = redactor

    @classmethod
    def open(cls, config):
        try:
            return cls(Redactor(parse(config)))
        except Wrong as wrong:
            raise Err(Error_InvalidConfig(ConfigProblem(wrong.path, wrong.reason))) from None

    def push(self, batch):
        if problem := broken(batch):
            raise Err(Error_InvalidBatch(problem))
        self.redactor.redact(batch)
        return Transformed(batch, [])
