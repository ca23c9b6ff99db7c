"""What a checker says: valid or not, what it counted, and the first operations that break the rule."""

SHOWN_MAX = 20      # violations that are kept; the rest is counted


class Verdict:
    """`valid`: True, False, or None (nothing to judge: no operation of the kind in this history)."""

    def __init__(self, name, guarantee, promise):
        self.name, self.guarantee, self.promise = name, guarantee, promise
        self.valid = None
        self.counts = {}
        self.violations = []
        self.notes = []
        self.violations_total = 0
        self.rows = None

    def judged(self):
        """There was something to judge, and so far nothing is wrong with it."""
        if self.valid is None:
            self.valid = True

    def count(self, name, amount=1):
        self.counts[name] = self.counts.get(name, 0) + amount

    def violate(self, rule, message, *indices):
        """`rule` is the short name of what was broken; indices are those of the events that show it."""
        self.valid = False
        self.violations_total += 1
        if len(self.violations) < SHOWN_MAX:
            self.violations.append({"rule": rule, "message": message,
                                    "events": [index for index in indices if index is not None]})

    def why(self):
        """In one line: what is wrong, or what was looked at."""
        if self.violations:
            more = f" (and {self.violations_total - 1} more)" if self.violations_total > 1 else ""
            return self.violations[0]["message"] + more
        return ", ".join(f"{amount:,} {name.replace('_', ' ')}" for name, amount in self.counts.items())

    def as_dict(self):
        return {"name": self.name, "guarantee": self.guarantee, "promise": self.promise, "valid": self.valid,
                "why": self.why(), "numbers": self.counts, "notes": self.notes, "rows": self.rows,
                "violations_total": self.violations_total, "violations": self.violations}

    def __repr__(self):
        word = {True: "holds", False: "BROKEN", None: "not judged"}[self.valid]
        lines = [f"{self.guarantee} {self.name}: {word} {self.counts or ''}".rstrip()]
        lines += [f"    {one['rule']}: {one['message']} {one['events']}" for one in self.violations]
        if self.violations_total > len(self.violations):
            lines.append(f"    and {self.violations_total - len(self.violations)} more")
        return "\n".join(lines + [f"    note: {note}" for note in self.notes])
