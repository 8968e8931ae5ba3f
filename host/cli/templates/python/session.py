"""Sessions of the stage. The module is named after the interface, and the class after its resource."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.{{kind}} import ConfigProblem, Error_InvalidBatch, Error_InvalidConfig

from batch import broken_invariant
from settings import InvalidSetting
from stage import Stage


class Session(exports.{{kind}}.Session):
    def __init__(self, stage):
        self.stage = stage

    @classmethod
    def open(cls, config):
        try:
            return cls(Stage(config))
        except InvalidSetting as error:
            raise Err(Error_InvalidConfig(ConfigProblem(error.path, error.reason))) from None

    def push(self, batch):
        if problem := broken_invariant(batch):
            raise Err(Error_InvalidBatch(problem))
        return self.stage.push(batch)
