def write_report(folder, card, summary): pass
