import click
from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_login import login_user, logout_user

from .extensions import db
from .models import Customer

bp = Blueprint("auth", __name__)


@bp.route("/login", methods=["GET", "POST"])
def log_in():
    if request.method == "POST":
        customer = db.session.scalar(db.select(Customer).filter_by(email=request.form["email"]))
        if customer and customer.check_password(request.form["password"]):
            login_user(customer)
            return redirect(url_for("chat.page"))
        flash("That is not right.")
    return render_template("login.html")


@bp.post("/logout")
def log_out():
    logout_user()
    return redirect(url_for("auth.log_in"))


@bp.cli.command("add")
@click.argument("email")
@click.argument("name")
@click.password_option()
def add(email, name, password):
    """Add a customer."""
    customer = Customer(email=email, name=name)
    customer.set_password(password)
    db.session.add(customer)
    db.session.commit()
