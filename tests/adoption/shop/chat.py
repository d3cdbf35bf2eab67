from flask import Blueprint, render_template, request
from flask_login import current_user, login_required

from .bot import answer
from .extensions import db
from .models import Line

bp = Blueprint("chat", __name__)


def say(customer_id, author, text):
    db.session.add(Line(customer_id=customer_id, author=author, text=text))


@bp.get("/")
@login_required
def page():
    return render_template("chat.html")


@bp.post("/chat")
@login_required
def write():
    text = request.form["text"]
    say(current_user.id, "customer", text)
    say(current_user.id, "bot", answer(text))
    db.session.commit()
    return "", 204


@bp.get("/chat/lines")
@login_required
def lines():
    after = request.args.get("after", 0, int)
    found = db.select(Line).where(Line.customer_id == current_user.id, Line.id > after).order_by(Line.id)
    return [{"id": one.id, "author": one.author, "text": one.text} for one in db.session.scalars(found)]
