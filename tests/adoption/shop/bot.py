def answer(text):
    if "price" in text.lower():
        return "All teas are 7 euros a tin."
    return "I know the price of our teas. What else can I do?"
