/* SPDX-License-Identifier: BSD-3-Clause */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_string_fns.h>

#include "cli/number.h"
#include "cli/port_keys.h"

/* VLANs 0 and 4095 are reserved (IEEE 802.1Q, table 9-2). */
#define VLAN_LAST 4094

/*
 * Room for the longest list that can mean something: all addresses, or a few hundred VLANs and
 * ranges. A file allows for less (CFG_VALUE_LEN).
 */
#define LIST_SIZE 4096

/* Of a value that is not accepted, what an error line repeats. */
#define QUOTED_MAX 64

enum key_kind {
	KEY_NAME,   /* into a char[PORT_NAME_SIZE] */
	KEY_PATH,   /* into a char[PORT_SOCKET_SIZE] */
	KEY_WORD,   /* one of two words, into a bool */
	KEY_VLAN,   /* min..max or none, into a uint16_t */
	KEY_VLANS,  /* a list, into a struct vlan_set */
	KEY_MACS,   /* a list, into mac[] and nb_macs */
	KEY_NUMBER, /* min..max, decimal, into a uint32_t */
	KEY_RATE,   /* min..max or 0, decimal with k, M or G, into a uint64_t */
};

struct key_row {
	const char *name;
	enum key_kind kind;
	uint64_t min, max;
	size_t member;	     /* offset in struct port_settings or, for [switch], ports_config */
	const char *word[2]; /* KEY_WORD: for false and true */
	const char *preset;  /* default, as it would be given; NULL: the key is required */
	bool fixed;	     /* changes only by a removal and an addition of the port */
	const char *value;   /* name of the value in the usage */
	const char *accepts; /* for the error line and the usage */
	const char *help;
};

#define MEMBER(m) .member = offsetof(struct port_settings, m)
#define SWITCH_MEMBER(m) .member = offsetof(struct ports_config, m)
#define YES_OR_NO .kind = KEY_WORD, .word = { "no", "yes" }, .value = "yes|no", \
	.accepts = "yes or no"
#define BITS .kind = KEY_RATE, .min = 1000, .max = UINT64_C(1000000000000), .preset = "0", \
	.value = "BITS", .accepts = "bits per second from 1k to 1000G, or 0 for no limit"
#define FRAMES .kind = KEY_RATE, .min = 1, .max = 1000000000, .preset = "0", \
	.value = "FRAMES", .accepts = "frames per second from 1 to 1000M, or 0 for no limit"

static const struct key_row key_table[] = {
	[PORT_KEY_NAME] = { "name", KEY_NAME, MEMBER(name), .value = "NAME", .fixed = true,
		.accepts = "1 to 31 characters of a-z A-Z 0-9 . _ -",
		.help = "name of the port (required; in a file the section has it)" },
	[PORT_KEY_SOCKET] = { "socket", KEY_PATH, MEMBER(socket), .value = "PATH", .fixed = true,
		.accepts = "the path of a vhost-user socket, at most 107 bytes",
		.help = "where the guest connects (required)" },
	[PORT_KEY_MODE] = { "mode", KEY_WORD, MEMBER(client), .word = { "server", "client" },
		.preset = "server", .fixed = true, .value = "server|client",
		.accepts = "server or client",
		.help = "listen at the socket, or connect to one that the guest serves" },
	[PORT_KEY_VLAN] = { "vlan", KEY_VLAN, .min = 1, .max = VLAN_LAST, MEMBER(vlan),
		.preset = "none", .value = "VLAN", .accepts = "1 to 4094, or none",
		.help = "untagged in the guest, with this tag on the uplink" },
	[PORT_KEY_TRUNK] = { "trunk", KEY_VLANS, .min = 1, .max = VLAN_LAST, MEMBER(trunk),
		.preset = "none", .value = "LIST",
		.accepts = "VLANs from 1 to 4094 and ranges, as 10;20;100-199, or all, or none",
		.help = "tagged in the guest; a VLAN of the key vlan is then the native one" },
	[PORT_KEY_MAC] = { "mac", KEY_MACS, MEMBER(mac), .preset = "none", .value = "LIST",
		.accepts = "up to 64 unicast addresses, as 02:00:00:00:00:01;02:00:00:00:00:02, "
			   "or none",
		.help = "static addresses of the guest" },
	[PORT_KEY_LEARN] = { "learn", KEY_NUMBER, .min = 0, .max = 1024, MEMBER(learn),
		.preset = "8", .value = "N", .accepts = "a number from 0 to 1024",
		.help = "addresses that are learned, at most" },
	[PORT_KEY_SOURCE_CHECK] = { "source-check", YES_OR_NO, MEMBER(source_check),
		.preset = "no", .help = "drop frames from sources that are not its addresses" },
	[PORT_KEY_FLOOD] = { "flood", YES_OR_NO, MEMBER(flood), .preset = "yes",
		.help = "deliver frames to unknown addresses of its VLANs to it" },
	[PORT_KEY_ISOLATED] = { "isolated", YES_OR_NO, MEMBER(isolated), .preset = "no",
		.help = "no frames to and from other isolated ports" },
	[PORT_KEY_RATE] = { "rate", BITS, MEMBER(rate), .help = "what the guest may send" },
	[PORT_KEY_RATE_TO] = { "rate-to", BITS, MEMBER(rate_to),
		.help = "what may be sent to the guest" },
	[PORT_KEY_FRAMES] = { "frames", FRAMES, MEMBER(frames), .help = "what the guest may send" },
	[PORT_KEY_STORM] = { "storm", FRAMES, MEMBER(storm),
		.help = "broadcast, multicast and unknown unicast that it may send" },
	[PORT_KEY_LINK] = { "link", KEY_WORD, MEMBER(link_up), .word = { "down", "up" },
		.preset = "up", .value = "up|down", .accepts = "up or down",
		.help = "down: no frames in or out" },
	[PORT_KEY_OFFLOAD] = { "offload", YES_OR_NO, MEMBER(offload), .preset = "yes",
		.fixed = true, .help = "checksum and segmentation offload, mergeable buffers" },
	[SWITCH_KEY_MAC_AGE] = { "mac-age", KEY_NUMBER, .min = 1, .max = 1000000,
		SWITCH_MEMBER(mac_age), .preset = "300", .value = "SECONDS",
		.accepts = "seconds from 1 to 1000000",
		.help = "forget an address that has sent nothing for so long" },
	[SWITCH_KEY_FLOOD_UNKNOWN] = { "flood-unknown", YES_OR_NO, SWITCH_MEMBER(flood_unknown),
		.preset = "yes", .help = "no: unknown unicast goes to the uplink alone" },
};

_Static_assert(RTE_DIM(key_table) == PORT_KEY_MAX && PORT_KEY_MAX <= 32, "one row, and bit, a key");

static enum port_key
first_key(bool is_switch)
{
	return is_switch ? SWITCH_KEY_FIRST : 0;
}

static enum port_key
end_key(bool is_switch)
{
	return is_switch ? PORT_KEY_MAX : SWITCH_KEY_FIRST;
}

static bool
parse_name(const char *text, char *name)
{
	size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789._-");

	if (len == 0 || text[len] != '\0' || len >= PORT_NAME_SIZE)
		return false;
	memcpy(name, text, len + 1);
	return true;
}

static bool
parse_path(const char *text, char *path)
{
	return text[0] != '\0' && strlcpy(path, text, PORT_SOCKET_SIZE) < PORT_SOCKET_SIZE;
}

static bool
parse_word(const struct key_row *row, const char *text, bool *value)
{
	*value = strcmp(text, row->word[1]) == 0;
	return *value || strcmp(text, row->word[0]) == 0;
}

static bool
parse_rate(const struct key_row *row, const char *text, uint64_t *value)
{
	static const char suffix[] = "kMG";
	size_t len = strlen(text);
	const char *unit = len > 0 ? strchr(suffix, text[len - 1]) : NULL;
	char digits[24];
	uint64_t factor = 1;
	ptrdiff_t i;

	if (unit != NULL) {
		len--;
		for (i = 0; i <= unit - suffix; i++)
			factor *= 1000;
	}
	if (len >= sizeof(digits))
		return false;
	memcpy(digits, text, len);
	digits[len] = '\0';
	if (!number_parse(digits, 10, value) || *value > row->max / factor)
		return false;
	*value *= factor;
	return *value == 0 || *value >= row->min;
}

/* The next element of a list, without the blanks around it. NULL after the last. */
static char *
next_element(char **list)
{
	char *element = strsep(list, ";"), *end;

	if (element == NULL)
		return NULL;
	element += strspn(element, " \t");
	end = element + strlen(element);
	while (end > element && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	return element;
}

static bool
parse_range(const struct key_row *row, char *element, struct vlan_set *set)
{
	char *dash = strchr(element, '-');
	uint64_t first, last;

	if (dash != NULL)
		*dash = '\0';
	if (!number_parse(element, 10, &first) || first < row->min || first > row->max)
		return false;
	last = first;
	if (dash != NULL && (!number_parse(dash + 1, 10, &last) || last < first || last > row->max))
		return false;
	for (; first <= last; first++)
		set->word[first / 64] |= RTE_BIT64(first % 64);
	return true;
}

static bool
parse_vlans(const struct key_row *row, const char *text, struct vlan_set *set)
{
	char copy[LIST_SIZE], all[] = "1-4094", *list = copy, *element;

	memset(set, 0, sizeof(*set));
	if (strcmp(text, "none") == 0)
		return true;
	if (strcmp(text, "all") == 0)
		return parse_range(row, all, set);
	if (strlcpy(copy, text, sizeof(copy)) >= sizeof(copy))
		return false;
	while ((element = next_element(&list)) != NULL) {
		if (!parse_range(row, element, set))
			return false;
	}
	return true;
}

/* As ip(8) writes it. rte_ether_unformat_addr() accepts other forms too, which depend on DPDK. */
static bool
parse_mac(const char *text, struct rte_ether_addr *mac)
{
	unsigned int i;

	for (i = 0; i < 17; i++) {
		if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	if (text[17] != '\0')
		return false;
	for (i = 0; i < RTE_ETHER_ADDR_LEN; i++)
		mac->addr_bytes[i] = (uint8_t)strtoul(text + 3 * i, NULL, 16);
	return rte_is_valid_assigned_ether_addr(mac);
}

static int
compare_macs(const void *a, const void *b)
{
	return memcmp(a, b, RTE_ETHER_ADDR_LEN);
}

static bool
parse_macs(const char *text, struct port_settings *port)
{
	char copy[LIST_SIZE], *list = copy, *element;
	unsigned int i;

	port->nb_macs = 0;
	memset(port->mac, 0, sizeof(port->mac));
	if (strcmp(text, "none") == 0)
		return true;
	if (strlcpy(copy, text, sizeof(copy)) >= sizeof(copy))
		return false;
	while ((element = next_element(&list)) != NULL) {
		if (port->nb_macs == PORT_MAC_MAX || !parse_mac(element, &port->mac[port->nb_macs]))
			return false;
		port->nb_macs++;
	}
	qsort(port->mac, port->nb_macs, sizeof(port->mac[0]), compare_macs);
	for (i = 1; i < port->nb_macs; i++) {
		if (compare_macs(&port->mac[i - 1], &port->mac[i]) == 0)
			return false;
	}
	return true;
}

static bool
parse_value(const struct key_row *row, const char *text, void *settings)
{
	void *member = RTE_PTR_ADD(settings, row->member);
	uint64_t v = 0;

	switch (row->kind) {
	case KEY_NAME:
		return parse_name(text, member);
	case KEY_PATH:
		return parse_path(text, member);
	case KEY_WORD:
		return parse_word(row, text, member);
	case KEY_VLAN:
		if (strcmp(text, "none") != 0 &&
				(!number_parse(text, 10, &v) || v < row->min || v > row->max))
			return false;
		*(uint16_t *)member = (uint16_t)v;
		return true;
	case KEY_VLANS:
		return parse_vlans(row, text, member);
	case KEY_MACS:
		return parse_macs(text, settings);
	case KEY_NUMBER:
		if (!number_parse(text, 10, &v) || v < row->min || v > row->max)
			return false;
		*(uint32_t *)member = (uint32_t)v;
		return true;
	case KEY_RATE:
		return parse_rate(row, text, member);
	}
	return false;
}

void
port_keys_preset(struct key_place *place)
{
	enum port_key k;

	if (!place->is_switch)
		memset(place->settings, 0, sizeof(struct port_settings));
	for (k = first_key(place->is_switch); k < end_key(place->is_switch); k++) {
		if (key_table[k].preset != NULL)
			parse_value(&key_table[k], key_table[k].preset, place->settings);
	}
	place->given = 0;
}

static int
unknown_key(const struct key_place *place, const char *key)
{
	char known[256] = "";
	enum port_key k;

	for (k = first_key(place->is_switch); k < end_key(place->is_switch); k++) {
		if (k == PORT_KEY_NAME && place->is_section)
			continue;
		if (known[0] != '\0')
			strlcat(known, ", ", sizeof(known));
		strlcat(known, key_table[k].name, sizeof(known));
	}
	return error_set(place->error, -EINVAL, "%s: unknown key '%.*s': it accepts %s",
		place->where, QUOTED_MAX, key, known);
}

int
port_keys_set(struct key_place *place, const char *key, const char *value)
{
	enum port_key k;

	for (k = first_key(place->is_switch); k < end_key(place->is_switch); k++) {
		if (strcmp(key, key_table[k].name) == 0)
			break;
	}
	if (k == end_key(place->is_switch))
		return unknown_key(place, key);
	if (k == PORT_KEY_NAME && place->is_section)
		return error_set(place->error, -EINVAL, "%s %s: the name of a port in a file must "
			"be in its section's title, [port NAME]", place->where, key);
	if (place->given & RTE_BIT32(k))
		return error_set(place->error, -EINVAL, "%s %s: the key is given twice: it must be "
			"unique", place->where, key);
	place->given |= RTE_BIT32(k);
	if (!parse_value(&key_table[k], value, place->settings))
		return error_set(place->error, -EINVAL, "%s %s: invalid value '%.*s%s': it accepts "
			"%s", place->where, key, QUOTED_MAX, value,
			strlen(value) > QUOTED_MAX ? "..." : "", key_table[k].accepts);
	return 0;
}

int
port_keys_complete(const struct key_place *place)
{
	enum port_key k;

	for (k = first_key(place->is_switch); k < end_key(place->is_switch); k++) {
		if (key_table[k].preset != NULL || (place->given & RTE_BIT32(k)) ||
				(k == PORT_KEY_NAME && place->is_section))
			continue;
		return error_set(place->error, -EINVAL, "%s %s: the key is missing: it accepts %s",
			place->where, key_table[k].name, key_table[k].accepts);
	}
	return 0;
}

static bool
is_equal(const struct key_row *row, const void *a, const void *b)
{
	const void *in_a = RTE_PTR_ADD(a, row->member), *in_b = RTE_PTR_ADD(b, row->member);

	switch (row->kind) {
	case KEY_NAME:
	case KEY_PATH:
		return strcmp(in_a, in_b) == 0;
	case KEY_WORD:
		return memcmp(in_a, in_b, sizeof(bool)) == 0;
	case KEY_VLAN:
		return memcmp(in_a, in_b, sizeof(uint16_t)) == 0;
	case KEY_VLANS:
		return memcmp(in_a, in_b, sizeof(struct vlan_set)) == 0;
	case KEY_MACS: /* sorted, and zero after the last */
		return memcmp(in_a, in_b, PORT_MAC_MAX * sizeof(struct rte_ether_addr)) == 0;
	case KEY_NUMBER:
		return memcmp(in_a, in_b, sizeof(uint32_t)) == 0;
	case KEY_RATE:
		return memcmp(in_a, in_b, sizeof(uint64_t)) == 0;
	}
	return false;
}

uint32_t
port_keys_compare(const void *a, const void *b, bool is_switch)
{
	uint32_t keys = 0;
	enum port_key k;

	for (k = first_key(is_switch); k < end_key(is_switch); k++) {
		if (!is_equal(&key_table[k], a, b))
			keys |= RTE_BIT32(k);
	}
	return keys;
}

uint32_t
port_keys_fixed(void)
{
	uint32_t keys = 0;
	enum port_key k;

	for (k = 0; k < PORT_KEY_MAX; k++) {
		if (key_table[k].fixed)
			keys |= RTE_BIT32(k);
	}
	return keys;
}

void
port_keys_usage(FILE *out)
{
	char call[48];
	enum port_key k;

	fprintf(out, "\nKeys of --port, and of a section [port NAME] in the file of --config:\n");
	for (k = 0; k < PORT_KEY_MAX; k++) {
		const struct key_row *row = &key_table[k];

		if (k == SWITCH_KEY_FIRST)
			fprintf(out, "\nKeys of the section [switch]:\n");
		snprintf(call, sizeof(call), "%s=%s", row->name, row->value);
		fprintf(out, "    %-21s %s\n", call, row->help);
		fprintf(out, "    %-21s accepts %s%s%s\n", "", row->accepts,
			row->preset != NULL ? "; default " : "",
			row->preset != NULL ? row->preset : "");
	}
}
