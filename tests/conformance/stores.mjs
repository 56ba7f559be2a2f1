// The memory stores of a scenario, as the application sees them through the official client.

/** One store: {name, access, memories: {path: content}} of a scenario. */
class Store {
  constructor(client, id) {
    this.id = id;
    this.memories = client.beta.memoryStores.memories;
  }

  async items() {
    const found = {};
    for await (const item of this.memories.list(this.id, { view: 'full' })) found[item.path] = item;
    return found;
  }

  /** Everything in it: {path: content}. */
  async contents() {
    return Object.fromEntries(Object.entries(await this.items()).map(([path, { content }]) => [path, content]));
  }

  async put(path, content) {
    const item = (await this.items())[path];
    if (item) await this.memories.update(item.id, { memory_store_id: this.id, content });
    else await this.memories.create(this.id, { path, content });
  }

  async remove(path) {
    const item = (await this.items())[path];
    await this.memories.delete(item.id, { memory_store_id: this.id });
  }
}

/** Makes the stores that a scenario wants; `resources` attaches them at `{workdir}/memory/<name>`. */
export async function makeStores(plane, wanted = []) {
  const stores = [];
  const resources = [];
  for (const { name, access = 'read_write', memories = {} } of wanted) {
    const { id } = await plane.client.beta.memoryStores.create({ name });
    const store = new Store(plane.client, id);
    for (const [path, content] of Object.entries(memories)) await store.put(path, content);
    stores.push(store);
    // mount_path is the emulator's own: on the container's own disk the usual one would be everybody's.
    resources.push({ type: 'memory_store', memory_store_id: id, access, mount_path: null });
  }
  return { stores, resources };
}
