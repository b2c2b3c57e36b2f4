/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <string.h>

#include <rte_common.h>

#include "cli/number.h"
#include "cli/options.h"
#include "cli/port_keys.h"

enum option_kind {
	OPT_FLAG,   /* accepts no value, sets a bool */
	OPT_NUMBER, /* min..max, decimal, into a uint32_t */
	OPT_MASK,   /* hexadecimal with at most one bit, into a uint64_t */
	OPT_MODE,   /* permission bits, octal, into a uint32_t */
	OPT_OWNER,  /* USER[:GROUP], into socket_uid and socket_gid */
	OPT_STRING, /* not empty, into a const char * */
	OPT_CHOICE, /* one of choices, its index into a uint32_t; the first one is the default */
	OPT_LIST,   /* may be repeated max times, into a const char *[] and its count */
};

struct option_row {
	const char *name; /* without dashes; one letter: a short option */
	enum option_kind kind;
	uint32_t min, max, step; /* OPT_NUMBER; step: 0 or 1, any value in the range */
	size_t count;		 /* OPT_LIST: offset in struct config of how many there are */
	uint32_t preset;	 /* default of an OPT_NUMBER */
	size_t member;		 /* offset in struct config */
	const char *choices[4];	 /* OPT_CHOICE, NULL after the last */
	const char *value;	 /* name of the value in the usage */
	const char *accepts;	 /* for the error line and the usage */
	const char *help;
};

#define MEMBER(m) .member = offsetof(struct config, m)

static const struct option_row option_table[] = {
	{ "p", OPT_MASK, MEMBER(port_mask), .value = "MASK",
	  .accepts = "a hexadecimal port mask with exactly one bit, or 0x0 for no NIC",
	  .help = "the NIC port to use (required)" },
	{ "P", OPT_FLAG, MEMBER(promiscuous), .accepts = "no value",
	  .help = "promiscuous NIC" },
	{ "mirror-port", OPT_MASK, MEMBER(mirror_mask), .value = "MASK",
	  .accepts = "a hexadecimal port mask with exactly one bit, or 0x0 for none",
	  .help = "another port, to capture a guest's traffic at (default 0x0)" },
#ifdef VHOST_CUSE
	{ "dev-basename", OPT_STRING, MEMBER(dev_basename), .value = "NAME",
	  .accepts = "the name of a device to make below /dev",
	  .help = "character device that guests connect to (default vhost-net)" },
	{ "cuse-devnum", OPT_STRING, MEMBER(cuse_devnum), .value = "MAJOR:MINOR",
	  .accepts = "a device number MAJOR:MINOR", .help = "of that device (default: a free one "
	  "of major 10)" },
	{ "eventfd-link", OPT_FLAG, MEMBER(eventfd_link), .accepts = "no value",
	  .help = "take descriptors by the module eventfd_link, not by pidfd_getfd(2)" },
#else
	{ "dev-basename", OPT_STRING, MEMBER(dev_basename), .value = "NAME",
	  .accepts = "the path of a vhost-user socket",
	  .help = "vhost-user socket that guests connect to (default vhost-net)" },
#endif
	{ "socket-file", OPT_LIST, MEMBER(socket_file), .max = SOCKET_MAX - 1,
	  .count = offsetof(struct config, nb_socket_files), .value = "PATH",
	  .accepts = "the path of a vhost-user socket",
	  .help = "a vhost-user socket, may be repeated; replaces the default of --dev-basename" },
	{ "port", OPT_LIST, MEMBER(port), .max = PORT_MAX,
	  .count = offsetof(struct config, nb_ports), .value = "KEY=VALUE,...",
	  .accepts = "keys of a port with their values",
	  .help = "a port with a name, may be repeated; replaces the default of --dev-basename" },
	{ "config", OPT_STRING, MEMBER(config_file), .value = "FILE",
	  .accepts = "a file with a section [port NAME] for each port",
	  .help = "more ports, and the section [switch]" },
	{ "socket-owner", OPT_OWNER, .value = "USER[:GROUP]",
	  .accepts = "USER[:GROUP], each an existing name or a number",
	  .help = "who owns the sockets (default: who runs the switch)" },
	{ "socket-mode", OPT_MODE, MEMBER(socket_mode), .value = "OCTAL",
	  .accepts = "permissions from 0 to 777, octal",
	  .help = "permissions of the sockets (default: what the umask leaves)" },
	{ "client", OPT_FLAG, MEMBER(client), .accepts = "no value",
	  .help = "connect to sockets that QEMU serves, again when they come back" },
	{ "vm2vm", OPT_NUMBER, .min = 0, .max = 2, .preset = VM2VM_SOFTWARE, MEMBER(vm2vm),
	  .value = "N", .accepts = "0, 1 or 2",
	  .help = "guest to guest: 0 by way of the NIC's wire, 1 in software, "
		  "2 in the NIC's switch" },
	{ "mergeable", OPT_NUMBER, .min = 0, .max = 1, MEMBER(mergeable), .value = "N",
	  .accepts = "0 or 1", .help = "mergeable receive buffers, and jumbo frames on the NIC" },
	{ "stats", OPT_NUMBER, .min = 0, .max = 86400, MEMBER(stats_period), .value = "N",
	  .accepts = "seconds from 0 (off) to 86400",
	  .help = "print device statistics every N seconds" },
	{ "rx-retry", OPT_NUMBER, .min = 0, .max = 1, .preset = 1, MEMBER(rx_retry), .value = "N",
	  .accepts = "0 or 1", .help = "wait and retry when a guest's receive ring is full" },
	{ "rx-retry-num", OPT_NUMBER, .min = 0, .max = 1000, .preset = 4, MEMBER(rx_retry_num),
	  .value = "N", .accepts = "a number from 0 to 1000", .help = "retries per burst" },
	{ "rx-retry-delay", OPT_NUMBER, .min = 0, .max = 10000, .preset = 15,
	  MEMBER(rx_retry_delay), .value = "N", .accepts = "microseconds from 0 to 10000",
	  .help = "wait between retries, in microseconds" },
	{ "vlan-strip", OPT_NUMBER, .min = 0, .max = 1, .preset = 1, MEMBER(vlan_strip),
	  .value = "N", .accepts = "0 or 1", .help = "strip the VLAN tag on the way to the guest" },
	{ "tso", OPT_NUMBER, .min = 0, .max = 1, MEMBER(tso), .value = "N", .accepts = "0 or 1",
	  .help = "offer TCP segmentation offload to guests; implies --tx-csum 1" },
	{ "tx-csum", OPT_NUMBER, .min = 0, .max = 1, MEMBER(tx_csum), .value = "N",
	  .accepts = "0 or 1", .help = "offer checksum offload to guests" },
	{ "dcb", OPT_NUMBER, .min = 0, .max = 8, .step = 4, MEMBER(dcb), .value = "N",
	  .accepts = "0, 4 or 8", .help = "traffic classes per guest on a NIC with VMDQ and DCB" },
	{ "steering", OPT_CHOICE, MEMBER(steering), .choices = { "auto", "vmdq", "software" },
	  .value = "WAY", .accepts = "auto, vmdq or software",
	  .help = "how frames from the NIC find their guest (default auto)" },
	{ "total-num-mbufs", OPT_NUMBER, .min = 1024, .max = 16777216, MEMBER(total_num_mbufs),
	  .value = "N", .accepts = "a number from 1024 to 16777216",
	  .help = "size of the mbuf pool (default: computed)" },
	{ "help", OPT_FLAG, MEMBER(help), .accepts = "no value", .help = "print this and exit" },
	{ "version", OPT_FLAG, MEMBER(version), .accepts = "no value",
	  .help = "print the versions of this program and of DPDK, and exit" },
};

#ifdef VHOST_CUSE
#define GUESTS_TOO ", and vhost-net by CUSE"
#else
#define GUESTS_TOO ""
#endif

/* getopt_long()'s answer for row i of the table. */
#define ROW_CODE(i) (256 + (int)(i))

static bool
is_short(const struct option_row *row)
{
	return row->name[1] == '\0';
}

static int
reject(const struct option_row *row, const char *got)
{
	const char *dashes = is_short(row) ? "-" : "--";

	if (got != NULL)
		fprintf(stderr, "vhost-switch: invalid value '%s' for %s%s: it accepts %s\n", got,
			dashes, row->name, row->accepts);
	else if (row->kind == OPT_FLAG)
		fprintf(stderr, "vhost-switch: %s%s accepts %s\n", dashes, row->name, row->accepts);
	else
		fprintf(stderr, "vhost-switch: %s%s needs a value: it accepts %s\n", dashes,
			row->name, row->accepts);
	return -EINVAL;
}

/* A user or group by number; by name where that is none. */
static bool
parse_id(const char *text, uint32_t *id)
{
	uint64_t v;

	if (!number_parse(text, 10, &v) || v >= UINT32_MAX) /* the last one means none */
		return false;
	*id = (uint32_t)v;
	return true;
}

static bool
parse_owner(const char *text, struct config *cfg)
{
	const char *colon = strchr(text, ':');
	char user[64];
	const struct passwd *pw;
	const struct group *gr;
	size_t len = colon != NULL ? (size_t)(colon - text) : strlen(text);

	if (len >= sizeof(user))
		return false;
	memcpy(user, text, len);
	user[len] = '\0';
	if (!parse_id(user, &cfg->socket_uid)) {
		pw = getpwnam(user);
		if (pw == NULL)
			return false;
		cfg->socket_uid = pw->pw_uid;
	}
	if (colon == NULL || parse_id(colon + 1, &cfg->socket_gid))
		return true;
	gr = getgrnam(colon + 1);
	if (gr == NULL)
		return false;
	cfg->socket_gid = gr->gr_gid;
	return true;
}

static int
choose(const struct option_row *row, const char *text, uint32_t *member)
{
	uint32_t i;

	for (i = 0; row->choices[i] != NULL; i++) {
		if (strcmp(text, row->choices[i]) == 0) {
			*member = i;
			return 0;
		}
	}
	return reject(row, text);
}

static int
append(const struct option_row *row, const char *text, const char **list, unsigned int *count)
{
	if (text[0] == '\0')
		return reject(row, text);
	if (*count == row->max) {
		fprintf(stderr, "vhost-switch: --%s can be given at most %u times\n", row->name,
			row->max);
		return -EINVAL;
	}
	list[(*count)++] = text;
	return 0;
}

static int
set_option(const struct option_row *row, const char *text, struct config *cfg)
{
	void *member = RTE_PTR_ADD(cfg, row->member);
	uint64_t v;

	switch (row->kind) {
	case OPT_FLAG:
		*(bool *)member = true;
		return 0;
	case OPT_NUMBER:
		if (!number_parse(text, 10, &v) || v < row->min || v > row->max ||
				(row->step > 1 && v % row->step != 0))
			return reject(row, text);
		*(uint32_t *)member = (uint32_t)v;
		return 0;
	case OPT_MASK:
		if (!number_parse(text, 16, &v) || (v & (v - 1)) != 0)
			return reject(row, text);
		*(uint64_t *)member = v;
		if (member == &cfg->port_mask)
			cfg->port_mask_given = true;
		return 0;
	case OPT_MODE:
		if (!number_parse(text, 8, &v) || v > 0777)
			return reject(row, text);
		*(uint32_t *)member = (uint32_t)v;
		return 0;
	case OPT_CHOICE:
		return choose(row, text, member);
	case OPT_OWNER:
		return parse_owner(text, cfg) ? 0 : reject(row, text);
	case OPT_STRING:
		if (text[0] == '\0')
			return reject(row, text);
		*(const char **)member = text;
		return 0;
	case OPT_LIST:
		return append(row, text, member, RTE_PTR_ADD(cfg, row->count));
	}
	return -EINVAL;
}

static const struct option_row *
find_row(int code)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(option_table); i++) {
		if (code == ROW_CODE(i) ||
				(is_short(&option_table[i]) && code == option_table[i].name[0]))
			return &option_table[i];
	}
	return NULL;
}

static void
set_defaults(struct config *cfg)
{
	unsigned int i;

	memset(cfg, 0, sizeof(*cfg));
	cfg->socket_uid = UINT32_MAX;
	cfg->socket_gid = UINT32_MAX;
	cfg->socket_mode = UINT32_MAX;
	for (i = 0; i < RTE_DIM(option_table); i++) {
		if (option_table[i].kind == OPT_NUMBER)
			*(uint32_t *)RTE_PTR_ADD(cfg, option_table[i].member) =
				option_table[i].preset;
	}
}

/* The table in the form that getopt_long() reads. */
static void
fill_getopt(struct option *longs, char *shorts)
{
	unsigned int i;

	*shorts++ = ':';
	for (i = 0; i < RTE_DIM(option_table); i++) {
		const struct option_row *row = &option_table[i];
		bool value = row->kind != OPT_FLAG;

		if (is_short(row)) {
			*shorts++ = row->name[0];
			if (value)
				*shorts++ = ':';
			continue;
		}
		longs->name = row->name;
		longs->has_arg = value ? required_argument : no_argument;
		longs->flag = NULL;
		longs->val = ROW_CODE(i);
		longs++;
	}
	*shorts = '\0';
	memset(longs, 0, sizeof(*longs));
}

int
options_find(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0)
			return i;
	}
	return argc;
}

static int
check_complete(const struct config *cfg)
{
	if (cfg->help || cfg->version)
		return 0;
	if (!cfg->port_mask_given) {
		fprintf(stderr, "vhost-switch: -p is missing after \"--\": it accepts %s\n",
			option_table[0].accepts);
		return -EINVAL;
	}
	if (cfg->vm2vm == VM2VM_HARDWARE && cfg->port_mask == 0) {
		fprintf(stderr, "vhost-switch: --vm2vm 2 needs a NIC with an L2 switch, "
			"but -p 0x0 selects no NIC\n");
		return -EINVAL;
	}
	if (cfg->dcb != 0 && cfg->port_mask == 0) {
		fprintf(stderr, "vhost-switch: --dcb %u needs a NIC with VMDQ and DCB, "
			"but -p 0x0 selects no NIC\n", cfg->dcb);
		return -EINVAL;
	}
	if (cfg->steering == STEERING_VMDQ && cfg->port_mask == 0) {
		fprintf(stderr, "vhost-switch: --steering vmdq needs a NIC with VMDQ, "
			"but -p 0x0 selects no NIC\n");
		return -EINVAL;
	}
	if (cfg->mirror_mask != 0 && cfg->mirror_mask == cfg->port_mask) {
		fprintf(stderr, "vhost-switch: --mirror-port selects the port of -p: it must be "
			"another port\n");
		return -EINVAL;
	}
	if (cfg->client && (cfg->socket_uid != UINT32_MAX || cfg->socket_mode != UINT32_MAX)) {
		fprintf(stderr, "vhost-switch: --socket-owner and --socket-mode need sockets that "
			"this program creates, but with --client it creates none\n");
		return -EINVAL;
	}
	return 0;
}

int
options_parse(int argc, char **argv, struct config *cfg)
{
	struct option longs[RTE_DIM(option_table) + 1];
	char shorts[2 * RTE_DIM(option_table) + 2];
	const struct option_row *row;
	int code;

	set_defaults(cfg);
	fill_getopt(longs, shorts);
	optind = 0; /* glibc: start again, EAL parses with getopt as well */
	opterr = 0;
	while ((code = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		row = find_row(code == ':' ? optopt : code);
		if (code == ':' && row != NULL)
			return reject(row, NULL);
		if (row == NULL) {
			/* an unknown option, or a value given to a flag */
			row = code == '?' ? find_row(optopt) : NULL;
			if (row != NULL)
				return reject(row, NULL);
			fprintf(stderr, "vhost-switch: unknown option '%s', see --help\n",
				argv[optind - 1]);
			return -EINVAL;
		}
		if (set_option(row, optarg, cfg) < 0)
			return -EINVAL;
	}
	if (optind < argc) {
		fprintf(stderr, "vhost-switch: '%s' is not an option, see --help\n", argv[optind]);
		return -EINVAL;
	}
	if (cfg->tso)
		cfg->tx_csum = 1; /* virtio 1.1, 5.1.3.1: HOST_TSO needs CSUM */
	return check_complete(cfg);
}

void
options_usage(FILE *out, const char *program)
{
	unsigned int i;
	char call[48];

	fprintf(out, "usage: %s [EAL options] -- -p MASK [application options]\n\n"
		"Switches Ethernet frames between guests (vhost-user" GUESTS_TOO ") and a NIC "
		"port.\n\n", program);
	for (i = 0; i < RTE_DIM(option_table); i++) {
		const struct option_row *row = &option_table[i];

		snprintf(call, sizeof(call), "%s%s%s%s", is_short(row) ? "-" : "--", row->name,
			row->value ? " " : "", row->value ? row->value : "");
		fprintf(out, "  %-22s%s%s\n", call,
			strlen(call) <= 22 ? " " : "\n                         ", row->help);
		if (row->kind == OPT_NUMBER && row->preset >= row->min)
			fprintf(out, "  %-22s accepts %s; default %u\n", "", row->accepts,
				row->preset);
		else if (row->value != NULL)
			fprintf(out, "  %-22s accepts %s\n", "", row->accepts);
	}
	port_keys_usage(out);
}
