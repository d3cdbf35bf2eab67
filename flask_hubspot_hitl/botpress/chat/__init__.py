"""Bridge a channel that the host owns: to Botpress's Chat API, or to HubSpot while a handoff is open.

``bridge`` puts it together; ``from_user``, ``from_bot`` and ``handoff`` handle what the user, the bot and the agent
say; ``api`` speaks to Botpress, ``users`` is what the bridge remembers, ``shared`` what its parts have in common.
"""

from .bridge import ChatBridge as ChatBridge
from .users import ChatUser as ChatUser
