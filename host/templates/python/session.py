"""Sessions of the stage. The module has the name of the interface, and the class that of its resource."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.{{kind}} import ConfigProblem, Error_InvalidBatch, Error_InvalidConfig

from batch import broken
from settings import Wrong
from stage import Stage


class Session(exports.{{kind}}.Session):
    def __init__(self, stage):
        self.stage = stage

    @classmethod
    def open(cls, config):
        try:
            return cls(Stage(config))
        except Wrong as wrong:
            raise Err(Error_InvalidConfig(ConfigProblem(wrong.path, wrong.reason))) from None

    def push(self, batch):
        if problem := broken(batch):
            raise Err(Error_InvalidBatch(problem))
        return self.stage.push(batch)
