"""The kit of all Python tests: processes of the program, real servers, clients and test cases.

`kit.fakes` has the fakes of other services. `tests/fakes` tests them.
"""

from kit import names as names  # Every process that uses the kit resolves the names of tests.
