/* Header blocks as clients write them: RFC 7541, the encoder's half.
 *
 * The dynamic table is a ring of entries, newest first. An entry remembers a hash of its
 * field, so that a look-up compares strings only where they are equal. Fields are short:
 * one that does not fit an entry is never indexed. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { HPACK_TABLE = 4096, HPACK_OVERHEAD = 32, HPACK_TEXT = 256 };
enum { HPACK_ENTRIES = HPACK_TABLE / HPACK_OVERHEAD };
enum hpack_way { HPACK_INDEXED = 0x40, HPACK_LITERAL = 0, HPACK_NEVER = 0x10 };

struct hpack_entry {
  uint32_t hash;
  size_t name_size, value_size;
  char text[HPACK_TEXT];                     /* the name, then the value */
};

struct hpack_table {
  struct hpack_entry entries[HPACK_ENTRIES];
  unsigned newest, count;
  size_t size, limit;
  int resized;                               /* to be told in the next block */
};

static const struct { unsigned index; const char *name, *value; } hpack_static[] = {
    {1, ":authority", NULL},      {2, ":method", "GET"},   {3, ":method", "POST"},
    {4, ":path", "/"},            {6, ":scheme", "http"},  {7, ":scheme", "https"},
    {16, "accept-encoding", NULL}, {17, "accept-language", NULL}, {19, "accept", NULL},
    {28, "content-length", NULL}, {32, "cookie", NULL},    {58, "user-agent", NULL}};

/* Appendix B. The code is canonical: its lengths are all there is to know of it. */
static const uint8_t hpack_lengths[257] = {
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28,
    28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8,
    11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
    23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22,
    22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24,
    25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21,
    22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27,
    28, 27, 27, 27, 27, 27, 26, 30};
static uint32_t hpack_codes[257];

/* Fill in the codes; to be called once, before anything is encoded. */
static void hpack_begin(void) {
  uint32_t code = 0;
  for (unsigned length = 1; length <= 30; length++, code <<= 1)
    for (unsigned symbol = 0; symbol < 257; symbol++)
      if (hpack_lengths[symbol] == length) hpack_codes[symbol] = code++;
}

/* Section 5.1: an integer behind the bits of `first`. */
static size_t hpack_integer(uint8_t *out, unsigned first, unsigned bits, size_t value) {
  size_t at = 0, most = (1u << bits) - 1;
  if (value < most) {
    out[at++] = (uint8_t)(first | value);
    return at;
  }
  out[at++] = (uint8_t)(first | most);
  for (value -= most; value >= 0x80; value >>= 7) out[at++] = (uint8_t)(value | 0x80);
  out[at++] = (uint8_t)value;
  return at;
}

/* Section 5.2: a string, in Huffman's code if that is wanted and shorter. */
static size_t hpack_string(uint8_t *out, const char *text, size_t size, int huffman) {
  size_t bits = 0, at;
  for (size_t i = 0; huffman && i < size; i++) bits += hpack_lengths[(uint8_t)text[i]];
  size_t coded = (bits + 7) / 8;
  if (!huffman || coded >= size) {
    at = hpack_integer(out, 0, 7, size);
    memcpy(out + at, text, size);
    return at + size;
  }
  at = hpack_integer(out, 0x80, 7, coded);
  uint64_t held = 0;
  unsigned waiting = 0;
  for (size_t i = 0; i < size; i++) {
    uint8_t symbol = (uint8_t)text[i];
    held = held << hpack_lengths[symbol] | hpack_codes[symbol];
    waiting += hpack_lengths[symbol];
    for (; waiting >= 8; waiting -= 8) out[at++] = (uint8_t)(held >> (waiting - 8));
  }
  if (waiting) out[at++] = (uint8_t)(held << (8 - waiting) | 0xffu >> waiting);
  return at;
}

static const struct hpack_entry *hpack_entry_at(const struct hpack_table *table,
                                                unsigned age) {
  return &table->entries[(table->newest + HPACK_ENTRIES - age) % HPACK_ENTRIES];
}

static size_t hpack_size(const struct hpack_entry *entry) {
  return entry->name_size + entry->value_size + HPACK_OVERHEAD;
}

static void hpack_evict(struct hpack_table *table, size_t limit) {
  while (table->size > limit)
    table->size -= hpack_size(hpack_entry_at(table, --table->count));
}

/* Section 4.2: the peer's SETTINGS_HEADER_TABLE_SIZE; more than 4096 is not used. */
static void hpack_limit(struct hpack_table *table, size_t limit) {
  if (limit > HPACK_TABLE) limit = HPACK_TABLE;
  if (limit == table->limit) return;
  table->limit = limit;
  table->resized = 1;
  hpack_evict(table, limit);
}

static uint32_t hpack_hash(const char *text, size_t size, uint32_t hash) {
  for (size_t i = 0; i < size; i++) hash = (hash ^ (uint8_t)text[i]) * 16777619u;
  return hash;
}

/* Return the index of the field, 0 if there is none; `named` is that of its name. */
static unsigned hpack_find(const struct hpack_table *table, uint32_t hash,
                           const char *name, const char *value, size_t name_size,
                           size_t value_size, unsigned *named) {
  *named = 0;
  for (size_t i = 0; i < sizeof hpack_static / sizeof *hpack_static; i++) {
    if (strcmp(hpack_static[i].name, name)) continue;
    if (!*named) *named = hpack_static[i].index;
    if (hpack_static[i].value && !strcmp(hpack_static[i].value, value))
      return hpack_static[i].index;
  }
  for (unsigned age = 0; age < table->count; age++) {
    const struct hpack_entry *entry = hpack_entry_at(table, age);
    if (!*named && entry->name_size == name_size && !memcmp(entry->text, name, name_size))
      *named = 62 + age;
    if (entry->hash == hash && entry->name_size == name_size &&
        entry->value_size == value_size && !memcmp(entry->text, name, name_size) &&
        !memcmp(entry->text + name_size, value, value_size))
      return 62 + age;
  }
  return 0;
}

static void hpack_insert(struct hpack_table *table, uint32_t hash, const char *name,
                         const char *value, size_t name_size, size_t value_size) {
  size_t size = name_size + value_size + HPACK_OVERHEAD;
  hpack_evict(table, size > table->limit ? 0 : table->limit - size);
  if (size > table->limit) return;           /* section 4.4: that empties the table */
  table->newest = (table->newest + 1) % HPACK_ENTRIES;
  table->count++;
  table->size += size;
  struct hpack_entry *entry = &table->entries[table->newest];
  entry->hash = hash, entry->name_size = name_size, entry->value_size = value_size;
  memcpy(entry->text, name, name_size);
  memcpy(entry->text + name_size, value, value_size);
}

/* Append one field to a block: by index where the tables know it, else in the way that
 * is asked for. The block needs room for both strings and 24 bytes. */
static size_t hpack_field(struct hpack_table *table, uint8_t *out, const char *name,
                          const char *value, enum hpack_way way, int huffman) {
  size_t name_size = strlen(name), value_size = strlen(value), at = 0;
  uint32_t hash = hpack_hash(value, value_size, hpack_hash(name, name_size, 2166136261u));
  unsigned named, index = hpack_find(table, hash, name, value, name_size, value_size, &named);
  if (table->resized) {
    at += hpack_integer(out, 0x20, 5, table->limit); /* section 6.3 */
    table->resized = 0;
  }
  if (index && way != HPACK_NEVER) return at + hpack_integer(out + at, 0x80, 7, index);
  if (way == HPACK_INDEXED && name_size + value_size > HPACK_TEXT) way = HPACK_LITERAL;
  at += hpack_integer(out + at, way, way == HPACK_INDEXED ? 6 : 4, named);
  if (!named) at += hpack_string(out + at, name, name_size, huffman);
  at += hpack_string(out + at, value, value_size, huffman);
  if (way == HPACK_INDEXED)
    hpack_insert(table, hash, name, value, name_size, value_size);
  return at;
}
