"""Elsa for Python: OTP's processes, servers and supervisors, on Pykka.

The layout, each room needing only those before it:

runtime/    what a process is: mailbox, links, monitors, names, death, the scheduler
otp/        behaviours: GenServer, Supervisor, Registry, Wrapper, Task, Agent, debug
program.py  run: the main thread's door to a supervision tree
demo.py     the story that `make demo` tells; __main__.py is the command line

What a user types is exported here.
"""

from elsa_actors.otp import debug
from elsa_actors.otp.agent import Agent
from elsa_actors.otp.backoff import Backoff
from elsa_actors.otp.child_spec import ChildInfo
from elsa_actors.otp.dynamic_supervisor import DynamicSupervisor
from elsa_actors.otp.gen_server import GenServer, Request, call, cast, reply, send_request, stop
from elsa_actors.otp.registry import Registry, Via
from elsa_actors.otp.results import (
    TIMEOUT,
    Continue,
    Hibernate,
    Ignore,
    NoReply,
    Ok,
    Reply,
    Stop,
    Supervise,
    Timeout,
)
from elsa_actors.otp.supervisor import Supervisor
from elsa_actors.otp.task import Task
from elsa_actors.otp.wrapper import Wrapper
from elsa_actors.program import run
from elsa_actors.runtime import process
from elsa_actors.runtime.actor import Process
from elsa_actors.runtime.errors import (
    AlreadyStarted,
    CallExit,
    CallingSelf,
    CallTimeout,
    ChildError,
    ChildSpecError,
    ElsaError,
    Forked,
    NameTaken,
    NoProcess,
    NotAProcess,
    ReceiveTimeout,
    StartError,
)
from elsa_actors.runtime.exits import Down, Exit, ProcessExit

__all__ = [
    "TIMEOUT",
    "Agent",
    "AlreadyStarted",
    "Backoff",
    "CallExit",
    "CallTimeout",
    "CallingSelf",
    "ChildError",
    "ChildInfo",
    "ChildSpecError",
    "Continue",
    "Down",
    "DynamicSupervisor",
    "ElsaError",
    "Exit",
    "Forked",
    "GenServer",
    "Hibernate",
    "Ignore",
    "NameTaken",
    "NoProcess",
    "NoReply",
    "NotAProcess",
    "Ok",
    "Process",
    "ProcessExit",
    "ReceiveTimeout",
    "Registry",
    "Reply",
    "Request",
    "StartError",
    "Stop",
    "Supervise",
    "Supervisor",
    "Task",
    "Timeout",
    "Via",
    "Wrapper",
    "call",
    "cast",
    "debug",
    "process",
    "reply",
    "run",
    "send_request",
    "stop",
]
