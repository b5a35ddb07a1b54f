// What every server of others here answers: our page of devices, by the same three statements for the same caller.
import { createHash } from "node:crypto";

export const typeDefs = /* GraphQL */ `
  type Query { product(productId: Int!): Product }
  type Product { devices(first: Int!, after: String, orderBy: DeviceOrder): DeviceConnection! }
  enum DeviceOrder { DEVICE_ID }
  type DeviceConnection { nodes: [Device!]! pageInfo: PageInfo! }
  type PageInfo { hasNextPage: Boolean! endCursor: String }
  type Device {
    deviceId: ID! name: String serialNumber: String platform: String state: String! development: Boolean! claimedAt: String
    reportedProductId: Int firmwareVersion: Int createdAt: String! firmware: Firmware owner: Customer
  }
  type Firmware { version: Int! title: String! }
  type Customer { username: String! }
`;

const COLUMNS = "device_id, product_id, owner_id, name, serial_number, platform, state, development, claimed_at, reported_product_id, firmware_version, created_at";
const AT_HAND = `SELECT p.id FROM token t JOIN member m ON m.user_id = t.user_id JOIN product p ON p.organization_id = m.organization_id
  WHERE t.digest = $1 AND t.revoked_at IS NULL AND p.number = $2`;
const PAGE = `SELECT ${COLUMNS} FROM device WHERE product_id = $1 AND device_id > $2 ORDER BY device_id LIMIT $3`;

export async function store() {
  return process.env.DATABASE_URL ? postgres() : sqlite();
}

async function postgres() {
  const { default: pg } = await import("pg");
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
  const rows = async (name, text, values) => (await pool.query({ name, text, values })).rows;
  return {
    product: async (digest, number) => (await rows("product", AT_HAND, [digest, number]))[0],
    page: (product, after, count) => rows("page", PAGE, [product, after, count]),
    firmwares: (product, versions) =>
      rows("firmwares", "SELECT version, title FROM firmware WHERE product_id = $1 AND version = ANY($2)", [product, versions]),
    customers: (ids) => rows("customers", "SELECT id, username FROM customer WHERE id = ANY($1)", [ids]),
  };
}

async function sqlite() {
  const { default: Database } = await import("better-sqlite3");
  const db = new Database(process.env.SQLITE_FILE, { readonly: true });
  const numbered = (text) => db.prepare(text.replaceAll(/\$\d/g, "?"));
  const listed = (text) => db.prepare(text);
  const atHand = numbered(AT_HAND), page = numbered(PAGE);
  const firmwares = listed("SELECT version, title FROM firmware WHERE product_id = ? AND version IN (SELECT value FROM json_each(?))");
  const customers = listed("SELECT id, username FROM customer WHERE id IN (SELECT value FROM json_each(?))");
  return {
    product: (digest, number) => atHand.get(digest, number),
    page: (product, after, count) => page.all(product, after, count),
    firmwares: (product, versions) => firmwares.all(product, JSON.stringify(versions)),
    customers: (ids) => customers.all(JSON.stringify(ids)),
  };
}

export const digestOf = (authorization) => createHash("sha256").update(authorization.slice("Bearer ".length)).digest("hex");

const moment = (value) => (value == null ? null : (value instanceof Date ? value : new Date(value.replace(" ", "T"))).toISOString());

export const resolvers = {
  Query: { product: (_, { productId }, { rows, digest }) => rows.product(digest, productId) },
  Product: {
    async devices({ id }, { first, after }, { rows }) {
      const found = await rows.page(id, after ? Buffer.from(after, "base64url").toString() : "", first + 1);
      const nodes = found.slice(0, first);
      const last = nodes.at(-1);
      const endCursor = last ? Buffer.from(last.device_id).toString("base64url") : null;
      return { nodes, pageInfo: { hasNextPage: found.length > first, endCursor } };
    },
  },
  Device: {
    deviceId: (device) => device.device_id,
    serialNumber: (device) => device.serial_number,
    development: (device) => Boolean(device.development),
    claimedAt: (device) => moment(device.claimed_at),
    reportedProductId: (device) => device.reported_product_id,
    firmwareVersion: (device) => device.firmware_version,
    createdAt: (device) => moment(device.created_at),
  },
};

// For many devices at once, in their order.
export async function firmwaresOf(devices, rows) {
  const found = await rows.firmwares(devices[0].product_id, [...new Set(devices.map((device) => device.firmware_version))]);
  const byVersion = new Map(found.map((row) => [row.version, row]));
  return devices.map((device) => byVersion.get(device.firmware_version) ?? null);
}

export async function ownersOf(devices, rows) {
  const found = await rows.customers([...new Set(devices.map((device) => device.owner_id).filter(Boolean))]);
  const byId = new Map(found.map((row) => [row.id, row]));
  return devices.map((device) => byId.get(device.owner_id) ?? null);
}
