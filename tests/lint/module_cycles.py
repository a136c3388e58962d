#!/usr/bin/env python3
"""Fails on import cycles between the modules of a crate.

usage: module_cycles.py CRATE_SRC...      exit 1 with each cycle, 0 without
       module_cycles.py --self-test       plants a cycle and checks that it is found

A module is a file. An import is a path that starts with `crate::`, `super::`, `self::` or the name of a child module, in a `use` or in the
code. A path that goes through a re-export (`pub use child::Item`) counts as an import of the module that defines the item, so a `mod.rs` that
only re-exports is no part of a cycle. Code under `#[cfg(test)]` and test modules may import anything: they are not looked at.
"""
import os
import re
import sys
import tempfile

TEST_FILES = {"tests", "test_support"}


def modules_of(root):
    """Path of each module ('a::b') and its file, test modules left out."""
    found = {}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in TEST_FILES)
        for name in sorted(files):
            stem, ext = os.path.splitext(name)
            if ext != ".rs" or stem in TEST_FILES:
                continue
            parts = [p for p in os.path.relpath(folder, root).split(os.sep) if p != "."]
            if stem in ("lib", "main", "mod"):
                if stem == "main" and os.path.exists(os.path.join(folder, "lib.rs")):
                    continue
            else:
                parts.append(stem)
            found["::".join(parts)] = os.path.join(folder, name)
    return found


def without_noise(text):
    """The code without comments, string contents and items under #[cfg(test)]."""
    text = re.sub(r'//[^\n]*|/\*.*?\*/|b?r?"(?:\\.|[^"\\])*"', " ", text, flags=re.S)
    text = re.sub(r"pub\((?:in [^)]*|super|crate)\)", "pub", text)
    kept, at = [], 0
    for test in re.finditer(r"#\[cfg\(test\)\]", text):
        if test.start() < at:
            continue
        kept.append(text[at : test.start()])
        at = end_of_item(text, test.end())
    kept.append(text[at:])
    return "".join(kept)


def end_of_item(text, at):
    depth = 0
    for at in range(at, len(text)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at + 1
        elif text[at] == ";" and depth == 0:
            return at + 1
    return len(text)


def leaves(tree):
    """(path, name it gets) of each leaf of a use tree."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        path, _, alias = tree.partition(" as ")
        path = [part.strip() for part in path.split("::")]
        return [(path, alias.strip() or path[-1])]
    prefix = [part.strip() for part in tree[:brace].split("::") if part.strip()]
    inner, depth, start, out = tree[brace + 1 : tree.rfind("}")], 0, 0, []
    for at, char in enumerate(inner + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            if inner[start:at].strip():
                out += [(prefix + path, name) for path, name in leaves(inner[start:at])]
            start = at + 1
    return out


class Crate:
    def __init__(self, root):
        self.modules = modules_of(root)
        self.code = {name: without_noise(open(path, encoding="utf-8").read()) for name, path in self.modules.items()}
        self.exports = {}  # module -> {item: path}
        self.uses = {}
        for name, code in self.code.items():
            trees = re.findall(r"^\s*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", code, flags=re.M)
            self.uses[name] = [leaf for _, tree in trees for leaf in leaves(tree)]
            self.exports[name] = {item: path for visible, tree in trees if visible for path, item in leaves(tree)}

    def absolute(self, module, path):
        """The path from the crate's root, or None where it leads out of the crate."""
        base = module.split("::") if module else []
        head, rest = path[0], path[1:]
        if head == "crate":
            base = []
        elif head == "self":
            pass
        elif head == "super":
            base = base[:-1]
            while rest and rest[0] == "super":
                base, rest = base[:-1], rest[1:]
        elif "::".join(base + [head]) in self.modules:
            rest = path
        else:
            return None
        return base + rest

    def definer(self, path, seen=()):
        """The module that defines what an absolute path names."""
        for cut in range(len(path), -1, -1):
            module = "::".join(path[:cut])
            if module in self.modules:
                break
        rest = path[cut:]
        if rest and rest[0] in self.exports[module] and (module, rest[0]) not in seen:
            onward = self.absolute(module, self.exports[module][rest[0]])
            if onward is not None:
                return self.definer(onward + rest[1:], (*seen, (module, rest[0])))
        return module

    def imports(self):
        edges = {}
        for module, code in self.code.items():
            body = re.sub(r"^\s*(pub(?:\([^)]*\))?\s+)?use\s+[^;]+;", "", code, flags=re.M)
            # A name that is re-exported and not used here makes no import.
            only_passed_on = {name for name in self.exports[module] if not re.search(rf"\b{re.escape(name)}\b", body)}
            paths = [path for path, name in self.uses[module] if name not in only_passed_on]
            paths += [m.group(0).split("::") for m in re.finditer(r"(?<![\w:])(?:crate|super|self)(?:::\w+)+", body)]
            children = [m.rsplit("::", 1)[-1] for m in self.modules if m and m.rpartition("::")[0] == module]
            for child in children:
                paths += [m.group(0).split("::") for m in re.finditer(rf"(?<![\w:]){child}(?:::\w+)+", body)]
            targets = set()
            for path in paths:
                whole = self.absolute(module, [part for part in path if part])
                if whole is not None:
                    targets.add(self.definer([part for part in whole if part != "*"]))
            edges[module] = targets - {module}
        return edges


def components(edges):
    """Strongly connected sets of two and more (Tarjan, without recursion)."""
    index, low, stack, on, out, count = {}, {}, [], set(), [], 0
    for root in edges:
        if root in index:
            continue
        work = [(root, iter(sorted(edges[root])))]
        index[root] = low[root] = count = count + 1
        stack.append(root), on.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = count = count + 1
                    stack.append(target), on.add(target)
                    work.append((target, iter(sorted(edges[target]))))
                    break
                if target in on:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    found = []
                    while True:
                        found.append(stack.pop())
                        on.discard(found[-1])
                        if found[-1] == node:
                            break
                    if len(found) > 1:
                        out.append(sorted(found))
    return out


def check(root):
    edges = Crate(root).imports()
    cycles = components(edges)
    for cycle in cycles:
        print(f"{root}: {len(cycle)} modules import each other:")
        for module in cycle:
            print(f"  {module or '(root)'} -> {', '.join(sorted(t or '(root)' for t in edges[module] if t in cycle))}")
    return cycles


def self_test():
    files = {
        "lib.rs": "pub mod a; pub mod b; mod c;",
        "a/mod.rs": "mod inner;\nmod user;\npub use inner::Thing;\n",
        "a/inner.rs": "pub struct Thing;\n",
        "a/user.rs": "use super::Thing;\npub fn f(_: Thing) {}\n",
        "b.rs": "use crate::a::{Thing as Other, user};\n#[cfg(test)]\nmod tests { use crate::c::g; }\n",
        "c.rs": "pub fn g() { crate::b::h() }\n",
    }
    for planted, want in [({}, 0), ({"a/inner.rs": "pub struct Thing;\nfn f() { crate::c::g() }\n"}, 1)]:
        with tempfile.TemporaryDirectory() as root:
            for name, text in {**files, **planted}.items():
                os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
                with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                    file.write(text)
            if len(check(root)) != want:
                sys.exit(f"self-test: expected {want} cycle(s)")
    print("self-test passed: the planted cycle was found")


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
    elif len(sys.argv) < 2:
        sys.exit(__doc__)
    else:
        sys.exit(any([check(root) for root in sys.argv[1:]]))
