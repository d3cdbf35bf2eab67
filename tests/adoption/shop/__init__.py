"""A small tea shop's website: customers log in and talk to a bot."""

import os

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from . import auth, chat
from .extensions import csrf, db, login


def create_app(config=None):
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY=os.environ.get("SHOP_SECRET_KEY", "only for development"),
        SQLALCHEMY_DATABASE_URI=os.environ.get("SHOP_DATABASE", "sqlite:///shop.sqlite3"),
    )
    app.config.from_mapping(config or {})
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)
    db.init_app(app)
    login.init_app(app)
    csrf.init_app(app)
    app.register_blueprint(auth.bp)
    app.register_blueprint(chat.bp)
    with app.app_context():
        db.create_all()
    return app
