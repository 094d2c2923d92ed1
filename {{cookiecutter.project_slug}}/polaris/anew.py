"""`--again`: results that are set aside, to be computed anew."""

from __future__ import annotations

from .choosing import Part, is_one_of, names_of, pairs_of
from .errors import Refused
from .keys import Keys, key_of
from .machine import shown
from .result_table import ResultTable
from .wanted import is_app

FAILED = "failed"  # rows that every run tries again, asked for or not


def again(session, given: list[str], inputs: tuple) -> None:
    """Take results out, to be computed anew; what they were is kept in NAME-before.csv.

    Where it is known which rows a table is filled of, only those of the inputs that are given now,
    and that `--only` chooses: nothing else of it would be computed anew.
    """
    apps = [text for text in dict.fromkeys(given) if "=" not in text]
    rows = [text for text in given if "=" in text]
    if FAILED in apps:
        print(f"--again {FAILED}: every run tries the rows again that have failed")
        apps.remove(FAILED)
    if apps and rows:
        typed = " ".join(f"--again {text}" for text in given)
        raise Refused(
            f"{typed}: apps and rows are not taken together: give them one after the other"
        )
    asked = [Of(session, inputs, text, {}) for text in apps]
    if rows:
        wanted = pairs_of("--again", rows)
        asked.append(Of(session, inputs, " --again ".join(rows), wanted))
    for each in asked:
        each.look()  # all of them, before one takes anything
    asked.sort(key=lambda each: len(each.found))  # one without tables may still have nothing
    for each in asked:
        each.take()


class Of:
    """The results that one `--again` means: of an app, or of rows with some values.

    wanted: {column: texts of values}; {}: those of the app whose name is the text.
    """

    def __init__(self, session, inputs: tuple, text: str, wanted: dict[str, list[str]]):
        self.session = session
        self.inputs = inputs
        self.text = text
        self.wanted = wanted
        self.found = []  # (table, keys of rows that run now or None, its app)
        self.others = 0  # results of rows that do not run now

    def look(self) -> None:
        """Find what is meant; Refused where nothing is."""
        apps, columns = set(), set()
        for table, about in self.session.folder.tables():
            if table.header is None:
                continue
            apps.add(about["app"])
            columns |= set(table.header)
            if self.wanted and not self.wanted.keys() <= set(table.header):
                continue
            if not self.wanted and about["app"] != self.text:
                continue
            self.found.append((table, self._keys(table, about), about["app"]))
        if self.wanted:
            self._refuse_unknown(columns)
        elif not self.found and not self._may_have_cached_calls():
            there = f"; there are some of {', '.join(sorted(apps))}" if apps else ""
            none = "there are no results of an app of that name here"
            if self.session.choice is not None and self.session.has_cached():
                none = (
                    "of calls with cache=True --only chooses none: give --again alone; of others "
                )
                none += "there are no results of that name here"
            raise Refused(f"--again {self.text}: {none}{there}")

    @property
    def is_a_part(self) -> bool:
        """Whether not all results of an app are meant."""
        return bool(self.wanted) or self.session.choice is not None

    def _may_have_cached_calls(self):
        """Which have no rows: `--only` chooses none of them."""
        return self.session.choice is None and self.session.has_cached()

    def _refuse_unknown(self, columns):
        unknown = [name for name in self.wanted if name not in columns]
        mend = "calls with cache=True are chosen by the name of their app"
        if unknown:
            there = f"there are {', '.join(sorted(columns))}" if columns else "there are no results"
            raise Refused(
                f"--again {self.text}: no results have a column {unknown[0]}; {there}; {mend}"
            )

    def _keys(self, table: ResultTable, about: dict):
        """Keys of the rows that may run now; None: whatever rows the program gives."""
        files = about.get("path") is not None
        mine = [each for each in self.inputs if files and each.columns == table.inputs]
        choice = self.session.choice
        if not mine:
            if choice is not None and choice.most is not None:
                which = f"which {choice.most} rows of {table.shown} run is not known beforehand"
                raise Refused(f"--again {self.text} {choice.text}: {which}: choose by column=value")
            return None
        keys = Keys()
        for source in mine:
            part = choice and Part(choice, source.words, names_of(source))
            for _, row in source.rows():
                if part is None or part(row):
                    keys.add(key_of(row))
        keys.sort()
        return keys

    def take(self) -> None:
        """Take the results out, and say how many; Refused where there are none."""
        taken = {app for table, keys, app in self.found if self._take(table, keys)}
        # Else a cached result would come back as the row's.
        apps = taken if self.is_a_part else {self.text}
        forgotten = [self._forget(app) for app in sorted(apps)]
        functions = [app for app in sorted(taken) if not is_app(app)]
        if functions and self.session.has_cached():
            found = f"what {functions[0]} takes of apps with cache=True is found again"
            print(f"--again {self.text}: {found}: those have an --again of their own")
        if taken or any(forgotten):
            return
        none = (
            "no row of the results has these values"
            if self.wanted
            else "there are no results of it"
        )
        if self.others:
            none = f"none of its {self.others} results is of a row that this run has"
        raise Refused(f"--again {self.text}: {none}")

    def _forget(self, app):
        """Give up the cached results of an app, all of them: which is of which row is not known."""
        forgotten = self.session.forget(app)
        if forgotten:
            number = f"{forgotten} cached results" if forgotten > 0 else "the cached results"
            of = f" of {app}, of other rows and calls too," if self.is_a_part else ""
            print(f"--again {self.text}: {number}{of} are not used any more")
        return forgotten

    def _take(self, table, keys):
        others = self.others
        taken = table.take_out(lambda row, fields: self._means(table, keys, row, fields))
        others = self.others - others
        if taken:
            before = shown(table.path.with_name(f"{table.name}-before.csv"))
            number = f"{taken} result{'s' * (taken != 1)}"
            kept = f"; {others} of rows that this run has not are kept" if others else ""
            anew = f"{number} will be computed anew; what they were is in {before}"
            print(f"{table.shown}: {anew}{kept}")
        return taken

    def _means(self, table, keys, row, fields):
        """Whether a line of a table is meant."""
        cells = dict(zip(table.header, fields, strict=True))
        for name, texts in self.wanted.items():
            if not is_one_of(row.get(name, cells[name]), texts):
                return False
        runs = self._is_chosen(row) if keys is None else key_of(row) in keys
        self.others += not runs
        return runs

    def _is_chosen(self, row):
        choice = self.session.choice
        if choice is None:
            return True
        choice.by_again = True
        return Part(choice, "", list(row))(row)
