"""Sessions of the stage. The module is named after the interface, and the class after its resource."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.transformer import ConfigProblem, Error_InvalidBatch, Error_InvalidConfig, Transformed

from batch import broken_invariant
from config import parse
from redact import Redactor
from settings import InvalidSetting


class Session(exports.transformer.Session):
    def __init__(self, redactor):
        self.redactor = redactor

    @classmethod
    def open(cls, config):
        try:
            return cls(Redactor(parse(config)))
        except InvalidSetting as error:
            raise Err(Error_InvalidConfig(ConfigProblem(error.path, error.reason))) from None

    def push(self, batch):
        if problem := broken_invariant(batch):
            raise Err(Error_InvalidBatch(problem))
        self.redactor.redact(batch)
        return Transformed(batch, [])
