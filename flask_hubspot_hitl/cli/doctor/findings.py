"""Define everything that doctor can find, with its words. The table in ``docs/doctor.rst`` is held to this one.

A code never changes its meaning; a new finding gets a new number. HH1xx: the app. HH2xx: its database. HH3xx: its
public URL. HH4xx: the app at HubSpot. HH5xx: a portal (a HubSpot account). HH6xx: the dispatcher.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any


class Level(StrEnum):
    """How bad a finding is: an error keeps handoffs from working, and fails the command; a warning is worth a look."""

    ERROR = "error"
    WARNING = "warning"


class Code(Enum):
    """A kind of finding, ``HH…``: its level, what is wrong in general, why it matters, and what puts it right."""

    BUG = (
        "HH001",
        Level.ERROR,
        "A check failed by itself.",
        "What it looks at is not known to be right or wrong.",
        "Please report it, with the version of Flask-HubSpot-HITL.",
    )

    # The app ------------------------------------------------------------------------------------------------------
    SETTING = (
        "HH101",
        Level.ERROR,
        "A setting is wrong or missing.",
        "The app does not start like this.",
        "Set it in the environment or in app.config as shown.",
    )
    UNKNOWN_SETTING = (
        "HH102",
        Level.WARNING,
        "A setting is not known.",
        "It has no effect; often it is a typing error.",
        "Write it as in the table of settings (docs/settings.rst), or take it out.",
    )
    NO_HANDLER = (
        "HH103",
        Level.ERROR,
        "A core signal has no handler.",
        "What it tells would never reach the user: after five minutes it is given up, and the agent sees FAILED.",
        "Connect a function to it where the app is made, such as 'operator_message.connect(show, app)'; keep a "
        "reference to the function, signals hold it weakly.",
    )
    NO_KEY = (
        "HH104",
        Level.ERROR,
        "There is no key to encrypt HubSpot's tokens with.",
        "Without one no token can be stored, so nobody can install the app by OAuth.",
        "Set the app's SECRET_KEY, or HUBSPOT_HITL_ENCRYPTION_KEY.",
    )

    # The database -------------------------------------------------------------------------------------------------
    DATABASE = (
        "HH201",
        Level.ERROR,
        "The database can't be used.",
        "Nothing can be accepted: webhooks are answered with 503, 'start' and 'send' raise LedgerUnavailable.",
        "Check HUBSPOT_HITL_DATABASE_URL, and that the server runs. A newer schema needs the newer package.",
    )
    READ_ONLY = (
        "HH202",
        Level.ERROR,
        "The database can be read but not written.",
        "Nothing can be accepted: webhooks are answered with 503, 'start' and 'send' raise LedgerUnavailable.",
        "Check the free space, the rights of the file and its folder, and whether another program holds a lock.",
    )
    NOT_ADOPTED = (
        "HH203",
        Level.ERROR,
        "The database served another public URL before.",
        "It may be a copy of another installation's. Nothing is dispatched, so that its queue is not sent twice, and "
        "handoffs stay in state starting.",
        "If it is not a copy, run: flask hubspot-hitl adopt",
    )
    UNREADABLE_TOKEN = (
        "HH204",
        Level.ERROR,
        "A stored token can't be decrypted.",
        "SECRET_KEY or HUBSPOT_HITL_ENCRYPTION_KEY was changed. The token is left as it is.",
        "Put the old key into SECRET_KEY_FALLBACKS or at the end of HUBSPOT_HITL_ENCRYPTION_KEY and run "
        "'flask hubspot-hitl rekey', or connect the portal again: flask hubspot-hitl install-url",
    )

    OPEN_FOLDER = (
        "HH205",
        Level.WARNING,
        "Other users of this machine may look into the database's folder.",
        "The folder was not made by Flask-HubSpot-HITL. Its files are closed to others, the folder is not.",
        "Take the rights of others away: chmod 700 on that folder, or give the database a folder of its own.",
    )
    OTHER_STORE = (
        "HH206",
        Level.ERROR,
        "Another database came up than was here before.",
        "Nothing is taken in: webhooks are answered with 503, so that HubSpot sends them again to the right one.",
        "Check HUBSPOT_HITL_DATABASE_URL, and that its disk is mounted. If this one is right, run: "
        "flask hubspot-hitl adopt",
    )

    OLD_CONVERSATIONS = (
        "HH207",
        Level.WARNING,
        "Old conversations will be deleted.",
        "From this version on what was said is kept for HUBSPOT_HITL_KEEP_CONVERSATIONS days after a handoff's end, "
        "and what bridges know of a user as long after they came last.",
        "Set HUBSPOT_HITL_KEEP_CONVERSATIONS to another number of days, or to 0 to keep them for ever.",
    )

    # The public URL -----------------------------------------------------------------------------------------------
    URL_PRIVATE = (
        "HH301",
        Level.ERROR,
        "HubSpot can't call the public URL.",
        "It names an address that only this machine or network knows, so no reply of an agent would arrive.",
        "Set HUBSPOT_HITL_PUBLIC_URL to an https address of the open internet; a tunnel will do for a trial.",
    )
    URL_UNREACHABLE = (
        "HH302",
        Level.ERROR,
        "The public URL can't be reached.",
        "HubSpot would get no answer either, so no reply of an agent would arrive.",
        "Start the app and what is in front of it (proxy, tunnel), and check the name in HUBSPOT_HITL_PUBLIC_URL.",
    )
    URL_CERTIFICATE = (
        "HH303",
        Level.ERROR,
        "The public URL's certificate is not trusted.",
        "HubSpot refuses it as well, so no reply of an agent would arrive.",
        "Renew the certificate, and have the server send the whole chain for this name.",
    )
    URL_REDIRECTS = (
        "HH304",
        Level.ERROR,
        "The public URL redirects.",
        "HubSpot does not follow redirects, so no reply of an agent would arrive.",
        "Set HUBSPOT_HITL_PUBLIC_URL to the address it redirects to, or take the redirect out.",
    )
    URL_NOT_FOUND = (
        "HH305",
        Level.ERROR,
        "There is no webhook at the public URL.",
        "The path is another one, or another app answers, so no reply of an agent would arrive.",
        "HUBSPOT_HITL_PUBLIC_URL must have the path that the app is mounted at, without HUBSPOT_HITL_URL_PREFIX.",
    )
    URL_REFUSES = (
        "HH306",
        Level.ERROR,
        "The public URL refuses our signature.",
        "HubSpot's would be refused as well, so no reply of an agent would arrive.",
        "Restart the app, so that it runs with the settings of this command. The proxy must hand on the body and "
        "the headers X-HubSpot-* as they are.",
    )
    URL_TROUBLE = (
        "HH307",
        Level.ERROR,
        "The public URL answers with an error.",
        "HubSpot would get the same answer, and would try again for a day at the most.",
        "Look into the logs of the app and of what is in front of it (proxy, firewall).",
    )
    URL_OTHER_APP = (
        "HH308",
        Level.ERROR,
        "Something else answers at the public URL.",
        "It accepts HubSpot's webhooks and the app never hears of them, so no reply of an agent would arrive.",
        "Have the address lead to this app. If the app was upgraded just now, restart it.",
    )
    URL_OTHER_STORE = (
        "HH309",
        Level.ERROR,
        "The public URL leads to another installation.",
        "It has the same client secret and another database: what agents write would go there.",
        "Give each installation a PUBLIC_URL and an app of its own at HubSpot, or one DATABASE_URL to all processes.",
    )

    URL_OTHER_VERSION = (
        "HH310",
        Level.WARNING,
        "The public URL is answered by another version.",
        "What this command looks at may not be what the servers do.",
        "Restart the servers and workers after an upgrade.",
    )
    URL_BODY = (
        "HH311",
        Level.ERROR,
        "The webhook gets no body.",
        "Something of the app's has read it before, so no webhook can be verified, and no reply of an agent arrives.",
        "Have the app's before_request functions and WSGI middlewares leave our routes alone, or read the body with "
        "request.get_data(), which keeps it.",
    )

    # The app at HubSpot -------------------------------------------------------------------------------------------
    HUBSPOT_DOWN = (
        "HH401",
        Level.ERROR,
        "HubSpot can't be asked.",
        "As long as that lasts, messages wait in the database.",
        "Check the way out of this network (firewall, HUBSPOT_HITL_PROXY), and https://status.hubspot.com. A stand-in "
        "has to be started.",
    )
    CLOCK = (
        "HH402",
        Level.ERROR,
        "The clock is wrong.",
        "From five minutes on, HubSpot's webhooks are refused as too old, or as from the future.",
        "Have the machine (with PostgreSQL: the database's) set its clock by NTP.",
    )

    APP_UNSEEN = (
        "HH403",
        Level.WARNING,
        "The app's channel and webhooks can't be looked at.",
        "Whether HubSpot sends what agents write, to whom and of which kinds, is not known.",
        "Set HUBSPOT_HITL_APP_ID, the number in the address of the app's page, and HUBSPOT_HITL_DEVELOPER_API_KEY, "
        "from Development, Keys.",
    )
    DEVELOPER_KEY = (
        "HH404",
        Level.ERROR,
        "HubSpot refuses the developer API key.",
        "Without it neither the channel nor the subscriptions can be made or mended.",
        "Copy it from the developer account that owns the app (Development, Keys) into HUBSPOT_HITL_DEVELOPER_API_KEY, "
        "and check HUBSPOT_HITL_APP_ID.",
    )
    NO_CHANNEL = (
        "HH405",
        Level.ERROR,
        "There is no channel.",
        "Conversations have no way into HubSpot: 'start' raises NotConfigured.",
        "Run: flask hubspot-hitl setup",
    )
    CHANNEL_GONE = (
        "HH406",
        Level.ERROR,
        "HubSpot does not have the channel.",
        "Conversations have no way into HubSpot. A new channel takes some minutes to appear.",
        "Take HUBSPOT_HITL_CHANNEL_ID out if it is wrong, and run: flask hubspot-hitl setup",
    )
    CHANNEL_URL = (
        "HH407",
        Level.ERROR,
        "The channel's webhook URL is another one.",
        "What agents write is sent there, and not here.",
        "Run: flask hubspot-hitl setup",
    )
    CAPABILITIES = (
        "HH408",
        Level.ERROR,
        "The channel's capabilities differ from what we need.",
        "Replies, files or formatting may be missing in the agents' editor.",
        "Run: flask hubspot-hitl setup",
    )
    TARGET_URL = (
        "HH409",
        Level.ERROR,
        "The app's webhook target URL is another one.",
        "Assignments and ends of conversations are sent there, and not here.",
        "Run: flask hubspot-hitl setup",
    )
    SUBSCRIPTIONS = (
        "HH410",
        Level.ERROR,
        "A subscription is missing or paused.",
        "HubSpot does not tell of these changes.",
        "Run 'flask hubspot-hitl setup', or subscribe under Webhooks in the app's settings, and activate it.",
    )
    PRIVATE_APP = (
        "HH411",
        Level.WARNING,
        "The token is a private app's.",
        "HubSpot documents custom channels for apps that are installed by OAuth; calls may be refused, now or later.",
        "Make a project app with 'flask hubspot-hitl project init DIR' and 'hs project upload', and install it: flask "
        "hubspot-hitl install-url",
    )
    CHANNEL_MARK = (
        "HH412",
        Level.WARNING,
        "The channel bears the mark of another installation.",
        "Two installations that use one channel take each other's webhooks.",
        "Give this one an app of its own, or take the channel over: flask hubspot-hitl setup --take-over",
    )
    CONNECT_URL = (
        "HH413",
        Level.WARNING,
        "HubSpot's own way to connect the channel leads elsewhere.",
        "Admins who pick the channel in an inbox's settings come to a page that is not ours.",
        "Run: flask hubspot-hitl setup",
    )
    API_ENDS = (
        "HH414",
        Level.WARNING,
        "The API version ends.",
        "From that day on HubSpot may refuse every call. /v4 paths, of which none is used here, end on 30 March 2027.",
        "Run 'flask hubspot-hitl setup --migrate', which tries the stored tokens at the newest version first.",
    )
    OAUTH_ENDS = (
        "HH415",
        Level.WARNING,
        "The version of the token endpoint ends.",
        "From that day on no token is renewed: half an hour later every call is refused.",
        "Run 'flask hubspot-hitl setup --migrate', which tries the stored tokens at the newest version first.",
    )
    LEGACY_SCOPE = (
        "HH416",
        Level.WARNING,
        "The scope files is one of legacy apps, and the app is a project app.",
        "HubSpot refuses an installation that asks a project app for files, or a legacy app for files.read.",
        "For a project app write files.read,files.write in HUBSPOT_HITL_SCOPES and in the app's file; if the app is a "
        "legacy one, set HUBSPOT_HITL_APP_KIND to legacy-public.",
    )
    JOURNAL_REFUSED = (
        "HH417",
        Level.WARNING,
        "HubSpot refuses its journal.",
        "HUBSPOT_HITL_JOURNAL is on, but nothing tells of an app that was removed before the next call finds out.",
        "Check HUBSPOT_HITL_CLIENT_ID and HUBSPOT_HITL_CLIENT_SECRET; if a scope is missing that HubSpot does not give "
        "this app, unset HUBSPOT_HITL_JOURNAL.",
    )
    JOURNAL_UNSUBSCRIBED = (
        "HH418",
        Level.WARNING,
        "A subscription to the journal is missing.",
        "HubSpot writes only what an app has subscribed to: of the rest nobody is told.",
        "Run: flask hubspot-hitl setup",
    )
    JOURNAL_LATE = (
        "HH419",
        Level.WARNING,
        "The journal has not been read for long.",
        "What is older than three days is gone from it; then every portal's token is asked instead.",
        "See that some process dispatches with HUBSPOT_HITL_JOURNAL on, and what its log says.",
    )
    FILES_DIFFER = (
        "HH420",
        Level.WARNING,
        "The project's files differ from what is wanted.",
        "What HubSpot was given at the last upload may be no better: webhooks or an installation may fail.",
        "Run 'flask hubspot-hitl project init' with that folder, then 'hs project upload' in it.",
    )
    FILES_UNREADABLE = (
        "HH421",
        Level.WARNING,
        "The project's files can't be read.",
        "Whether HubSpot has what is wanted is not known.",
        "Set HUBSPOT_HITL_PROJECT_DIR to the folder that 'hs project upload' uploads, or take it out.",
    )
    UNPROVEN = (
        "HH422",
        Level.WARNING,
        "Some webhooks have not come yet.",
        "HubSpot does not show this app's subscriptions; nothing but what arrives proves them and their target URL.",
        "Run 'flask hubspot-hitl doctor --wait 300', and meanwhile have somebody take over a conversation in HubSpot, "
        "answer, and close it.",
    )
    INSTALL_CAP = (
        "HH423",
        Level.WARNING,
        "Hardly anybody more can install the app.",
        "HubSpot lets ten accounts install a private app, and 25 one of the marketplace until it is listed.",
        "Disconnect accounts that need it no more. A private app for others is made one of the marketplace with "
        "'flask hubspot-hitl project init --distribution marketplace' and 'hs project upload'; have that listed.",
    )

    # A portal -----------------------------------------------------------------------------------------------------

    NO_PORTAL = (
        "HH501",
        Level.ERROR,
        "No portal is connected.",
        "There is nobody to hand a conversation to: 'start' raises NotConfigured.",
        "Open the link that this makes: flask hubspot-hitl install-url",
    )
    NO_TOKEN = (
        "HH502",
        Level.ERROR,
        "There is no token for the portal.",
        "HubSpot can't be asked anything in its name.",
        "Open the link that this makes: flask hubspot-hitl install-url",
    )
    REVOKED = (
        "HH503",
        Level.ERROR,
        "HubSpot refuses the portal's token.",
        "The app was removed there, or the token was replaced. What waits for the portal is kept.",
        "Connect it again with the link that this makes: flask hubspot-hitl install-url",
    )
    APP_REFUSED = (
        "HH504",
        Level.ERROR,
        "HubSpot refuses the client id or the client secret.",
        "No token is renewed, and with another secret every webhook is refused.",
        "Copy both from Auth in the app's settings into HUBSPOT_HITL_CLIENT_ID and HUBSPOT_HITL_CLIENT_SECRET.",
    )
    OTHER_PORTAL = (
        "HH505",
        Level.ERROR,
        "The token is another portal's.",
        "Conversations would go to that portal, and its webhooks would be ignored here.",
        "Set HUBSPOT_HITL_PORTAL_ID to the token's portal, or the token to this portal's.",
    )
    OTHER_APP = (
        "HH506",
        Level.ERROR,
        "The token is another app's.",
        "Webhooks name the app they are for, and those of other apps are ignored.",
        "Set HUBSPOT_HITL_APP_ID to the app that the portal has installed, or install this one.",
    )
    SCOPES = (
        "HH507",
        Level.ERROR,
        "The portal has not granted every scope.",
        "The calls that need them are refused.",
        "Add the scopes to the app (or set HUBSPOT_HITL_SCOPES to those it has), and install it again: "
        "flask hubspot-hitl install-url",
    )
    TIER = (
        "HH508",
        Level.ERROR,
        "The portal may not use custom channels.",
        "They need Sales Hub or Service Hub Professional, or Enterprise.",
        "Upgrade the portal, or connect another one.",
    )
    NO_INBOX = (
        "HH509",
        Level.ERROR,
        "No inbox is chosen.",
        "'start' needs to be told one every time, with inbox_id.",
        "Set HUBSPOT_HITL_INBOX_ID, or run: flask hubspot-hitl setup",
    )
    INBOX_GONE = (
        "HH510",
        Level.ERROR,
        "There is no such inbox.",
        "'start' raises InboxNotConnected.",
        "List what there is with 'flask hubspot-hitl inboxes', and set HUBSPOT_HITL_INBOX_ID.",
    )
    INBOX_KIND = (
        "HH511",
        Level.WARNING,
        "The inbox is of a kind that we don't know.",
        "Channels are known to work in inboxes and help desks.",
        "Try a handoff, or choose another inbox: flask hubspot-hitl inboxes",
    )
    NOT_CONNECTED = (
        "HH512",
        Level.ERROR,
        "The channel is not connected to the inbox.",
        "'start' raises InboxNotConnected.",
        "Run: flask hubspot-hitl setup",
    )
    ACCOUNT_GONE = (
        "HH513",
        Level.ERROR,
        "The channel account is gone.",
        "It was archived or removed in HubSpot, so messages to it are refused.",
        "Take HUBSPOT_HITL_CHANNEL_ACCOUNT_ID out, and run: flask hubspot-hitl setup",
    )
    UNAUTHORIZED = (
        "HH514",
        Level.ERROR,
        "The channel account is not authorised.",
        "HubSpot takes no messages for it and sends none.",
        "Run: flask hubspot-hitl setup",
    )
    INACTIVE = (
        "HH515",
        Level.ERROR,
        "The channel account is switched off.",
        "Somebody switched it off in the inbox's settings; messages to it are refused.",
        "Switch it on in HubSpot: Settings, Inbox & Help Desk, the inbox, Channels.",
    )
    ACCOUNT_INBOX = (
        "HH516",
        Level.ERROR,
        "The channel account belongs to another inbox.",
        "Conversations would come up where nobody looks for them.",
        "Make HUBSPOT_HITL_CHANNEL_ACCOUNT_ID and HUBSPOT_HITL_INBOX_ID fit, or take the first out.",
    )
    ACCOUNT_MARK = (
        "HH517",
        Level.WARNING,
        "The channel account bears the mark of another installation.",
        "Two installations that use one account take each other's conversations.",
        "Run 'flask hubspot-hitl setup', or take the account over with --take-over.",
    )
    REFUSED = (
        "HH518",
        Level.ERROR,
        "HubSpot refuses a call.",
        "What it would have told is not known to be right or wrong.",
        "HubSpot's own words are above; its support can look up the correlation id.",
    )

    MORE_SCOPES = (
        "HH519",
        Level.WARNING,
        "The portal has granted more scopes than are in use.",
        "If the app requires them, HubSpot refuses an installation that does not ask for them all; if not, the token "
        "may do more than it has to.",
        "Take them out of the app's scopes, or, if you need them for something else, set HUBSPOT_HITL_SCOPES to all.",
    )
    POSTPONED = (
        "HH520",
        Level.WARNING,
        "HubSpot was not asked, to leave room for others.",
        "What it would have told is not known to be right or wrong. Messages wait for seconds; nothing is lost.",
        "Look at: flask hubspot-hitl status, and run this again. If it recurs and HubSpot allows the account more "
        "requests, raise HUBSPOT_HITL_RATE_LIMIT.",
    )

    UNTOLD = (
        "HH521",
        Level.WARNING,
        "HubSpot does not tell who is available.",
        "'availability' answers \"not known\", and start(require_available=True) goes on as if somebody were there.",
        "Add the scope to the app, and install it again: flask hubspot-hitl install-url. Or set "
        "HUBSPOT_HITL_AVAILABILITY to none, or to hours.",
    )
    NO_MEMBER = (
        "HH522",
        Level.WARNING,
        "HubSpot does not know who is set to answer in an inbox.",
        "They never count as available.",
        "Correct HUBSPOT_HITL_INBOX_MEMBERS: an agent has the number of the actor id, A-987, which is neither that of "
        "the owner nor that of the CRM object; a team has the id that HubSpot's API lists it with.",
    )
    MACHINES = (
        "HH523",
        Level.WARNING,
        "A machine of HubSpot's has conversations of ours.",
        "No human answers there: the user was promised one, and nobody else is told to come.",
        "In HubSpot, take our channel out of the customer agent's (L-…) or the chatflow's (B-…) channels. If it is "
        "meant so, set HUBSPOT_HITL_AUTOMATION_AS_OPERATOR to true.",
    )
    NO_TICKETS = (
        "HH524",
        Level.WARNING,
        "HubSpot does not let the app reach tickets.",
        "Notes are comments only, which HubSpot is replacing in help desks, and start(ticket=…) changes nothing.",
        "Set HUBSPOT_HITL_NOTES_IN to both, and give the app the scopes tickets and crm.objects.contacts.write: a "
        "project app by 'flask hubspot-hitl project init' and 'hs project upload', a legacy app under Auth in its "
        "settings. Restart, and install it again: flask hubspot-hitl install-url. Or set HUBSPOT_HITL_NOTES_IN to "
        "comment, and HUBSPOT_HITL_TICKETS to false.",
    )

    # The dispatcher -----------------------------------------------------------------------------------------------
    NOBODY_DISPATCHES = (
        "HH601",
        Level.ERROR,
        "Nobody dispatches.",
        "What comes in and what is sent stays in the database until somebody does.",
        "Start the app's server; with DISPATCHER = external run: flask hubspot-hitl worker",
    )
    INLINE = (
        "HH602",
        Level.WARNING,
        "The dispatcher is the one for tests.",
        "With 'inline' retries and timers run only when something else happens, and webhooks wait for handlers.",
        "Set HUBSPOT_HITL_DISPATCHER to thread, or to external with: flask hubspot-hitl worker",
    )
    HUNG = (
        "HH603",
        Level.WARNING,
        "A handler does not return.",
        "Its conversation waits; the others go on.",
        "Its stack is in the log. Give the calls in your handlers a time-out.",
    )
    LATE = (
        "HH604",
        Level.WARNING,
        "Events have been waiting for long.",
        "HubSpot or another server is down or slow, a handler keeps failing, or there are too few threads.",
        "Look at: flask hubspot-hitl status, and at the app's log.",
    )
    GIVEN_UP = (
        "HH605", Level.WARNING, "Events were given up.",
        "A message did not reach the user or the agent; the agent saw FAILED.",
        "Look at: flask hubspot-hitl dead list, and when the cause is gone run: flask hubspot-hitl dead retry --all",
    )  # fmt: skip
    NO_THREADS = (
        "HH606",
        Level.ERROR,
        "The server gives background threads no time.",
        "Such a server only stores. Its dispatcher is not started: it would be stopped in the middle of its work, with "
        "the database locked.",
        "Start uWSGI with 'enable-threads = true', or set HUBSPOT_HITL_DISPATCHER to external with: flask hubspot-hitl "
        "worker",
    )  # fmt: skip
    FULL = (
        "HH607",
        Level.ERROR,
        "Handlers hang in all threads.",
        "Nothing more is dispatched there until one of them returns; webhooks and messages are stored.",
        "Their stacks are in the log. Give the calls in your handlers a time-out, then restart the process.",
    )
    BRIDGE_REFUSED = (
        "HH608",
        Level.ERROR,
        "Botpress refuses the key of a bridge.",
        "What is to be sent there is kept for 24 hours, then it is given up, and its sender told.",
        "Put the bot's present key into the settings that are named, and restart; what waits is sent then.",
    )

    def __init__(self, code: str, level: Level, title: str, why: str, fix: str) -> None:
        self.code = code
        self.level = level
        self.title = title
        self.why = why
        self.fix = fix

    def found(self, what: str, *, portal_id: str | None = None, fix: str | None = None) -> Finding:
        """Make a finding: ``what`` exactly, in which portal, and ``fix`` if the usual way does not put it right."""
        return Finding(self, what, portal_id, fix or self.fix, self.level)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    code: Code
    what: str
    portal_id: str | None
    fix: str
    level: Level
    """The code's, or a milder one where it is less bad."""

    def facts(self) -> dict[str, Any]:
        """Return the finding, for machines."""
        code = self.code
        return {
            "code": code.code,
            "level": self.level.value,
            "title": code.title,
            "what": self.what,
            "why": code.why,
            "fix": self.fix,
            "portal_id": self.portal_id,
        }
