"""Hold the bridges' texts in six languages; those in English are Botpress's: docs/botpress.rst (Plugin settings)."""

from __future__ import annotations

_EN = {
    "onHitlHandoffMessage": "I have escalated this conversation to a human agent. They should be with you shortly.",
    "onHumanAgentAssignedMessage": "A human agent has joined the conversation.",
    "onHitlStoppedMessage": "The human agent closed the conversation. I will continue assisting you.",
    "onUserHitlCancelledMessage": "( The user has ended the session. )",
    "onIncompatibleMsgTypeMessage": (
        "Sorry, the user can not receive this type of message. Please resend your message as a text message."
    ),
    "onUserHitlCloseMessage": "You have ended the session with the human agent. I will continue assisting you.",
    "onAgentAssignedTimeoutMessage": (
        "No human agent is available at the moment. Please try again later. "
        "I will continue assisting you for the time being."
    ),
    "onMessageNotDelivered": "Sorry, this message could not be delivered. Please send it again in another way.",
    "onNobodyAvailableMessage": "No human agent is available right now. I will continue assisting you.",
    "onNobodyAvailableUntilMessage": (
        "No human agent is available right now. Somebody will be back on {when}. "
        "I will continue assisting you until then."
    ),
    "onWaitingMessage": "Your place in the queue: {place}",
    "userHitlCloseCommand": "/end",
}
_DE = {
    "onHitlHandoffMessage": "Ich habe das Gespräch an unser Team weitergegeben. Gleich meldet sich jemand bei Ihnen.",
    "onHumanAgentAssignedMessage": "Jemand aus unserem Team ist jetzt im Gespräch.",
    "onHitlStoppedMessage": "Unser Team hat das Gespräch beendet. Ab hier helfe ich Ihnen weiter.",
    "onUserHitlCancelledMessage": "( Der Benutzer hat das Gespräch beendet. )",
    "onIncompatibleMsgTypeMessage": (
        "Der Benutzer kann diese Art von Nachricht leider nicht empfangen. Bitte senden Sie sie als Text."
    ),
    "onUserHitlCloseMessage": "Sie haben das Gespräch mit unserem Team beendet. Ab hier helfe ich Ihnen weiter.",
    "onAgentAssignedTimeoutMessage": (
        "Im Moment ist leider niemand aus unserem Team erreichbar. Bitte versuchen Sie es später noch einmal. "
        "Bis dahin helfe ich Ihnen weiter."
    ),
    "onMessageNotDelivered": (
        "Diese Nachricht konnte leider nicht zugestellt werden. Bitte senden Sie sie auf andere Weise noch einmal."
    ),
    "onNobodyAvailableMessage": "Gerade ist niemand aus unserem Team da. Ich helfe Ihnen weiter.",
    "onNobodyAvailableUntilMessage": (
        "Gerade ist niemand aus unserem Team da. Ab {when} ist wieder jemand hier. Bis dahin helfe ich Ihnen weiter."
    ),
    "onWaitingMessage": "Ihr Platz in der Warteschlange: {place}",
    "userHitlCloseCommand": "/end",
}
_FR = {
    "onHitlHandoffMessage": (
        "J’ai transmis cette conversation à notre équipe. Quelqu’un va vous répondre dans quelques instants."
    ),
    "onHumanAgentAssignedMessage": "Un membre de notre équipe a rejoint la conversation.",
    "onHitlStoppedMessage": "Notre équipe a terminé la conversation. Je reste à votre disposition.",
    "onUserHitlCancelledMessage": "( L’utilisateur a mis fin à la conversation. )",
    "onIncompatibleMsgTypeMessage": (
        "Désolé, l’utilisateur ne peut pas recevoir ce type de message. Veuillez le renvoyer sous forme de texte."
    ),
    "onUserHitlCloseMessage": ("Vous avez mis fin à la conversation avec notre équipe. Je reste à votre disposition."),
    "onAgentAssignedTimeoutMessage": (
        "Personne de notre équipe n’est disponible pour le moment. Veuillez réessayer plus tard. "
        "En attendant, je reste à votre disposition."
    ),
    "onMessageNotDelivered": ("Désolé, ce message n’a pas pu être remis. Veuillez le renvoyer sous une autre forme."),
    "onNobodyAvailableMessage": (
        "Personne de notre équipe n’est disponible en ce moment. Je reste à votre disposition."
    ),
    "onNobodyAvailableUntilMessage": (
        "Personne de notre équipe n’est disponible en ce moment. Quelqu’un sera de retour le {when}. "
        "D’ici là, je reste à votre disposition."
    ),
    "onWaitingMessage": "Votre place dans la file d’attente : {place}",
    "userHitlCloseCommand": "/end",
}
_ES = {
    "onHitlHandoffMessage": "He pasado esta conversación a nuestro equipo. Enseguida le atenderá una persona.",
    "onHumanAgentAssignedMessage": "Una persona de nuestro equipo se ha unido a la conversación.",
    "onHitlStoppedMessage": "Nuestro equipo ha cerrado la conversación. Le sigo ayudando yo.",
    "onUserHitlCancelledMessage": "( El usuario ha terminado la conversación. )",
    "onIncompatibleMsgTypeMessage": (
        "El usuario no puede recibir este tipo de mensaje. Por favor, vuelva a enviarlo como texto."
    ),
    "onUserHitlCloseMessage": "Ha terminado la conversación con nuestro equipo. Le sigo ayudando yo.",
    "onAgentAssignedTimeoutMessage": (
        "En este momento no hay nadie de nuestro equipo disponible. Por favor, inténtelo más tarde. "
        "Mientras tanto, le sigo ayudando yo."
    ),
    "onMessageNotDelivered": (
        "Lo siento, este mensaje no se ha podido entregar. Por favor, envíelo de nuevo de otra forma."
    ),
    "onNobodyAvailableMessage": "Ahora mismo no hay nadie de nuestro equipo. Le sigo ayudando yo.",
    "onNobodyAvailableUntilMessage": (
        "Ahora mismo no hay nadie de nuestro equipo. Habrá alguien de nuevo el {when}. "
        "Hasta entonces, le sigo ayudando yo."
    ),
    "onWaitingMessage": "Su puesto en la cola: {place}",
    "userHitlCloseCommand": "/end",
}
_PT = {
    "onHitlHandoffMessage": "Passei esta conversa à nossa equipa. Alguém vai responder-lhe dentro de momentos.",
    "onHumanAgentAssignedMessage": "Uma pessoa da nossa equipa entrou na conversa.",
    "onHitlStoppedMessage": "A nossa equipa encerrou a conversa. Continuo a ajudar.",
    "onUserHitlCancelledMessage": "( O utilizador terminou a conversa. )",
    "onIncompatibleMsgTypeMessage": (
        "O utilizador não pode receber este tipo de mensagem. Por favor, envie-a de novo como texto."
    ),
    "onUserHitlCloseMessage": "Terminou a conversa com a nossa equipa. Continuo a ajudar.",
    "onAgentAssignedTimeoutMessage": (
        "De momento não há ninguém da nossa equipa disponível. Por favor, tente mais tarde. "
        "Entretanto, continuo a ajudar."
    ),
    "onMessageNotDelivered": ("Não foi possível entregar esta mensagem. Por favor, envie-a de novo de outra forma."),
    "onNobodyAvailableMessage": "Neste momento não está ninguém da nossa equipa. Continuo a ajudar.",
    "onNobodyAvailableUntilMessage": (
        "Neste momento não está ninguém da nossa equipa. Haverá alguém de novo em {when}. Até lá, continuo a ajudar."
    ),
    "onWaitingMessage": "O seu lugar na fila: {place}",
    "userHitlCloseCommand": "/end",
}
_IT = {
    "onHitlHandoffMessage": "Ho passato la conversazione al nostro team. Tra poco qualcuno le risponderà.",
    "onHumanAgentAssignedMessage": "Una persona del nostro team si è unita alla conversazione.",
    "onHitlStoppedMessage": "Il nostro team ha chiuso la conversazione. Continuo ad aiutarla io.",
    "onUserHitlCancelledMessage": "( L’utente ha terminato la conversazione. )",
    "onIncompatibleMsgTypeMessage": (
        "L’utente non può ricevere questo tipo di messaggio. La preghiamo di inviarlo di nuovo come testo."
    ),
    "onUserHitlCloseMessage": "Ha terminato la conversazione con il nostro team. Continuo ad aiutarla io.",
    "onAgentAssignedTimeoutMessage": (
        "Al momento nessuno del nostro team è disponibile. La preghiamo di riprovare più tardi. "
        "Nel frattempo continuo ad aiutarla io."
    ),
    "onMessageNotDelivered": (
        "Non è stato possibile recapitare questo messaggio. La preghiamo di inviarlo di nuovo in un altro modo."
    ),
    "onNobodyAvailableMessage": "In questo momento non c’è nessuno del nostro team. Continuo ad aiutarla io.",
    "onNobodyAvailableUntilMessage": (
        "In questo momento non c’è nessuno del nostro team. Qualcuno sarà di nuovo qui il {when}. "
        "Fino ad allora continuo ad aiutarla io."
    ),
    "onWaitingMessage": "Il suo posto in coda: {place}",
    "userHitlCloseCommand": "/end",
}
TEXTS = {"en": _EN, "de": _DE, "fr": _FR, "es": _ES, "pt": _PT, "it": _IT}
"""Texts by language, and then by Botpress's own names, but for ``onMessageNotDelivered``, ``onNobody…`` and
``onWaitingMessage``, which are ours. ``{when}`` is a time, ``{place}`` a number from 1."""
