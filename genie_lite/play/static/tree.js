/**
 * The branches of a game.
 *
 * A branch grows from frame `at` of its parent; its own frames are at + 1 … end, and frame k of a branch with k ≤ at is
 * its parent's. The root's frame 0 is the last of the frames to begin from. codes[i], actions[i] led to frame at + 1 + i.
 */

export class Tree {
  constructor() {
    this.branches = new Map();
  }

  /** Take over the server's tree. */
  read(branches) {
    this.branches = new Map(
      branches.map(({ id, parent, at, codes, actions }) => [
        id,
        { id, parent: parent ?? null, at: at ?? 0, codes: [...codes], actions: [...(actions ?? [])] },
      ]),
    );
  }

  get ids() {
    return [...this.branches.keys()];
  }

  /** The number of a branch's newest frame. */
  end(id) {
    const branch = this.branches.get(id);
    return branch ? branch.at + branch.codes.length : 0;
  }

  get longest() {
    return Math.max(0, ...this.ids.map((id) => this.end(id)));
  }

  /** The branch that a frame of a branch really belongs to. */
  owner(id, frame) {
    let branch = this.branches.get(id);
    while (branch && branch.parent !== null && frame <= branch.at) branch = this.branches.get(branch.parent);
    return branch ? branch.id : id;
  }

  /** The code and the action that led to a frame; nulls for the first. */
  cause(id, frame) {
    const branch = this.branches.get(this.owner(id, frame));
    const place = branch ? frame - branch.at - 1 : -1;
    return { code: branch?.codes[place] ?? null, action: branch?.actions[place] ?? null };
  }

  /** What led from the start to a moment: [{code, action}]. */
  path(id, frame) {
    return Array.from({ length: frame }, (_, before) => this.cause(id, before + 1));
  }

  /** Note that a branch begins; its frames follow. */
  begin(id, parent, at) {
    this.branches.set(id, { id, parent, at, codes: [], actions: [] });
  }

  /** Note a frame that has just been drawn. */
  grow(id, frame, code, action) {
    const branch = this.branches.get(id);
    const place = branch ? frame - branch.at - 1 : -1;
    if (place < 0 || place > branch.codes.length) return;
    branch.codes[place] = code;
    branch.actions[place] = action;
  }

  /** Branches with their depth, every one after its parent and beside its siblings. */
  rows() {
    const rows = [];
    const visit = (id, depth) => {
      rows.push({ id, depth });
      const children = this.ids.filter((each) => this.branches.get(each).parent === id);
      children.forEach((child) => visit(child, depth + 1));
    };
    this.ids.filter((id) => this.branches.get(id).parent === null).forEach((id) => visit(id, 0));
    return rows;
  }

  /** A … Z, then A1 …: what people call a branch, in the order of their beginnings. */
  letter(id) {
    const place = Math.max(0, this.ids.indexOf(id));
    return String.fromCharCode(65 + (place % 26)) + (place >= 26 ? Math.floor(place / 26) : "");
  }
}
